"""Which hazards are covered, by what, and when that counts as missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.tracing import Hazard, HazardError, document, hazards, page, trace
from streams.domain.rule import Rule, RuleBook
from streams.rulebook import load
from streams.settings import RULES

STALL = Hazard(id="HZ-05", title="The motor stalls")
UNSEEN = Hazard(id="HZ-24", title="Infection", unseen="nothing that a pump measures changes")


def _rule(hazards: tuple[str, ...], *examples: dict[str, Any]) -> Rule:
    return replace(load(RULES)["DLV-01"], hazards=hazards, examples=examples)


def _example(*named: str) -> dict[str, Any]:
    return {"name": "a stall opens it", "hazards": list(named)}


@pytest.mark.parametrize(
    ("rule", "cohort", "missing"),
    [
        (_rule(()), {"stall": ["HZ-05"]}, "no rule names it"),
        (_rule(("HZ-05",), _example()), {"stall": ["HZ-05"]}, "no example of its rules names it"),
        (_rule(("HZ-05",), _example("HZ-05")), {"stall": []}, "no hazard of the cohort names it"),
        (_rule(("HZ-05",), _example("HZ-05")), {"stall": ["HZ-05"]}, None),
    ],
)
def test_a_hazard_needs_a_rule_an_example_and_a_cohort_hazard(
    rule: Rule, cohort: dict[str, list[str]], missing: str | None
) -> None:
    """Each of the three that is not there is named."""
    [cover] = trace([STALL], RuleBook((rule,)), cohort)

    assert cover.missing == missing


def test_a_hazard_that_telemetry_cannot_show_says_why() -> None:
    """It needs no cover, and the page carries the reason."""
    covers = trace([UNSEEN], RuleBook((_rule(()),)), {})

    assert covers[0].missing is None
    assert "nothing that a pump measures changes" in page(covers)
    assert document(covers)[0]["unseen"] == UNSEEN.unseen


@pytest.mark.parametrize(
    ("rule", "cohort"),
    [
        (_rule(("HZ-99",)), {}),
        (_rule(("HZ-05",)), {"stall": ["HZ-98"]}),
        (_rule(("HZ-05",), _example("HZ-24")), {}),
    ],
)
def test_a_hazard_that_nobody_knows_is_refused(rule: Rule, cohort: dict[str, list[str]]) -> None:
    """A typing error must not look like a cover."""
    with pytest.raises(HazardError):
        trace([STALL, UNSEEN], RuleBook((rule,)), cohort)


def test_the_list_of_hazards_is_read(tmp_path: Path) -> None:
    """The project's own list has ids of their own; a list that uses one twice is refused."""
    twice = tmp_path / "hazards.yaml"
    twice.write_text("[{id: HZ-01, title: one}, {id: HZ-01, title: two}]")

    assert len(hazards(RULES / "hazards.yaml")) == 25
    with pytest.raises(HazardError, match="used twice"):
        hazards(twice)
