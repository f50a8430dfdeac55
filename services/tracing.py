"""From each hazard to what covers it: rules, their examples, and hazards of the simulated cohort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from streams.domain.rule import Rule, RuleBook


class HazardError(ValueError):
    """The list of hazards cannot be used."""


class Hazard(BaseModel):
    """One hazard; ``unseen`` says why telemetry cannot show it, where that is so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^HZ-\d{2}$")]
    title: str
    unseen: str | None = None


@dataclass(frozen=True, slots=True)
class Cover:
    """What covers one hazard: rules with those of their examples that name it, and hazards of the cohort."""

    hazard: Hazard
    rules: tuple[tuple[Rule, tuple[str, ...]], ...]
    cohort: tuple[str, ...]

    @property
    def missing(self) -> str | None:
        """What is not there although it should be; None when the hazard is covered, or cannot be seen."""
        if self.hazard.unseen is not None:
            return None
        if not self.rules:
            return "no rule names it"
        if not any(examples for _, examples in self.rules):
            return "no example of its rules names it"
        return None if self.cohort else "no hazard of the cohort names it"


def hazards(file: Path) -> tuple[Hazard, ...]:
    """The hazards in a file.

    Raises:
        HazardError: If it is not a list of hazards with ids of their own.
    """
    try:
        found = TypeAdapter(tuple[Hazard, ...]).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise HazardError(f"{file}: {error}") from error
    if len({hazard.id for hazard in found}) != len(found):
        raise HazardError(f"{file}: an id is used twice")
    return found


def trace(known: Sequence[Hazard], rules: RuleBook, cohort: Mapping[str, Iterable[str]]) -> tuple[Cover, ...]:
    """What covers each hazard.

    Args:
        known: The hazards.
        rules: The rules; each names the hazards that it is for, and each example those that it shows.
        cohort: The cohort's hazards by name, with the ids of the hazards that they bring about.

    Raises:
        HazardError: If a rule, an example or a hazard of the cohort names an id that is not known.
    """
    ids = {hazard.id for hazard in known}
    for name, named in [*((rule.id, rule.hazards) for rule in rules), *cohort.items()]:
        if unknown := set(named) - ids:
            raise HazardError(f"{name} names {min(unknown)}, which is not a known hazard")
    for rule in rules:
        for example in rule.examples:
            if foreign := set(example["hazards"]) - set(rule.hazards):
                raise HazardError(
                    f"{rule.id}: example {example['name']!r} names {min(foreign)}, which its rule does not"
                )
    return tuple(_cover(hazard, rules, cohort) for hazard in known)


def _cover(hazard: Hazard, rules: RuleBook, cohort: Mapping[str, Iterable[str]]) -> Cover:
    for_it = tuple(
        (rule, _showing(rule, hazard.id))
        for rule in sorted(rules, key=lambda rule: rule.id)
        if hazard.id in rule.hazards
    )
    return Cover(hazard, for_it, tuple(name for name, named in cohort.items() if hazard.id in named))


def _showing(rule: Rule, hazard_id: str) -> tuple[str, ...]:
    return tuple(example["name"] for example in rule.examples if hazard_id in example["hazards"])


def page(covers: Sequence[Cover]) -> str:
    """The page as HTML that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("services", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("trace.html").render(covers=covers)


def document(covers: Sequence[Cover]) -> list[dict[str, Any]]:
    """The page's content as JSON values."""
    return [
        {
            "hazard": cover.hazard.id,
            "title": cover.hazard.title,
            "unseen": cover.hazard.unseen,
            "rules": {rule.id: list(examples) for rule, examples in cover.rules},
            "cohort": list(cover.cohort),
            "missing": cover.missing,
        }
        for cover in covers
    ]
