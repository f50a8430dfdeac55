"""Runs a cohort: one pump after the other in as many processes as there are cores, then the score.

Each pump draws its chances from the cohort's seed and its own number, so that the result does not depend on how many
processes there are, nor on which of them is faster.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

import msgspec

from services.emulator.cohort.assigning import assign
from services.emulator.cohort.delivery import deliver, outages_of
from services.emulator.cohort.hazards import KINDS
from services.emulator.cohort.hazards.kinds import Moment
from services.emulator.cohort.judging import Judgement, Past, judge
from services.emulator.cohort.life import Life, Lived
from services.emulator.cohort.patients import Patient, patients
from services.emulator.cohort.plan import Cohort, Dirt
from services.emulator.cohort.score import Score, score
from services.emulator.cohort.truth import fair
from streams.domain.rule import RuleBook
from streams.rulebook import load as load_rules

DISTURBED_BY: Final = timedelta(minutes=55)
"""How much later a report of a disturbed delivery arrives at most; within the lateness of one hour."""

Strikes = tuple[tuple[datetime, str], ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A pump whose effective history depends on how its reports were delivered: facts that only one of both has."""

    pump_id: str
    only_plain: tuple[Past, ...]
    only_disturbed: tuple[Past, ...]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A cohort's run. ``differences`` is None when delivery was not compared."""

    cohort: str
    seed: int
    pumps: int
    days: int
    rules: int
    score: Score
    judgements: tuple[Judgement, ...]
    differences: tuple[Difference, ...] | None = None

    @property
    def accepted(self) -> bool:
        """Whether the acceptance is met, and delivery made no difference where that was asked."""
        return self.score.accepted and not self.differences


def live(cohort: Cohort, patient: Patient, strikes: Strikes) -> Lived:
    """One patient's life under the hazards that were assigned; the deadlines allow for the gateway's outages."""
    chance = Random(f"{cohort.seed}/{cohort.name}/life/{patient.number}")
    life = Life(cohort, patient, outages_of(cohort, patient.gateway), chance)
    for at, kind in strikes:
        KINDS[kind].inject(life, Moment(KINDS[kind], at))
    lived = life.live()
    slack = patient.interval + timedelta(minutes=1)
    quiet = outages_of(cohort, patient.gateway)
    return msgspec.structs.replace(lived, hazards=tuple(fair(hazard, quiet, slack) for hazard in lived.hazards))


def disturbed(dirt: Dirt, share: float) -> Dirt:
    """The same gateways, that resend and reorder this share of all reports."""
    return dirt.model_copy(
        update={"duplicated_share": share, "delayed_share": share, "delayed_by": DISTURBED_BY},
    )


def judged(cohort: Cohort, lived: Lived, dirt: Dirt, rules: RuleBook) -> Judgement:
    """Deliver a life and let the engine judge it."""
    chance = Random(f"{cohort.seed}/{cohort.name}/delivery/{lived.patient.number}")
    until = cohort.start + timedelta(days=cohort.days)
    return judge(lived, deliver(lived, dirt, chance), rules, cohort.start, until)


_Judged: TypeAlias = tuple[int, Judgement, Difference | None]


class _Worker:
    """What each process holds: the cohort and the rules."""

    cohort: Cohort
    rules: RuleBook
    everyone: list[Patient]
    strikes: dict[int, list[tuple[datetime, str]]]
    compare: float | None


def _begin(document: str, rules: Path, compare: float | None) -> None:
    _Worker.cohort = Cohort.model_validate_json(document)
    _Worker.rules = load_rules(rules)
    _Worker.everyone = patients(_Worker.cohort)
    _Worker.strikes = assign(_Worker.cohort, _Worker.everyone)
    _Worker.compare = compare


def _one(number: int) -> _Judged:
    cohort, patient = _Worker.cohort, _Worker.everyone[number]
    lived = live(cohort, patient, tuple(_Worker.strikes[number]))
    plain = judged(cohort, lived, cohort.dirt, _Worker.rules)
    if _Worker.compare is None:
        return number, plain, None
    other = judged(cohort, lived, disturbed(cohort.dirt, _Worker.compare), _Worker.rules)
    return number, plain, difference(plain, other)


def difference(plain: Judgement, other: Judgement) -> Difference | None:
    """What two deliveries of the same life disagree on; None when their effective histories are the same."""
    if plain.history == other.history:
        return None
    return Difference(
        pump_id=plain.pump_id,
        only_plain=tuple(past for past in plain.history if past not in other.history),
        only_disturbed=tuple(past for past in other.history if past not in plain.history),
    )


def _judged_by(processes: int, cohort: Cohort, rules: Path, compare: float | None) -> Iterator[_Judged]:
    """Each pump in whatever order it is done."""
    shared = (cohort.model_dump_json(), rules, compare)
    if processes == 1:
        _begin(*shared)
        yield from map(_one, range(cohort.pumps))
        return
    with multiprocessing.get_context("spawn").Pool(processes, _begin, shared) as pool:
        yield from pool.imap_unordered(_one, range(cohort.pumps))


def _told_nobody(_: int, __: int) -> None:
    """For callers that do not watch."""


def run(
    cohort: Cohort,
    rules: Path,
    *,
    processes: int | None = None,
    compare: float | None = None,
    advanced: Callable[[int, int], None] | None = None,
) -> Result:
    """Run a cohort and score it.

    Args:
        cohort: The file, with whatever the caller overrode.
        rules: Folder of the rule files.
        processes: How many work side by side; as many as cores when None; 1 stays in this process.
        compare: Share of reports to duplicate and reorder in a second delivery whose history must be the same.
        advanced: Told after each pump how many of how many are done.

    Raises:
        RuleError: If the rules cannot be used.
    """
    book = load_rules(rules)  # Here the error can be told; in a pool it would end the process.
    found: list[_Judged] = []
    for one in _judged_by(min(processes or os.cpu_count() or 1, cohort.pumps), cohort, rules, compare):
        found.append(one)
        (advanced or _told_nobody)(len(found), cohort.pumps)
    found.sort(key=lambda one: one[0])
    in_force = frozenset(rule.id for rule in book if rule.lives_in == "worker")
    judgements = tuple(judgement for _, judgement, _ in found)
    return Result(
        cohort=cohort.name,
        seed=cohort.seed,
        pumps=cohort.pumps,
        days=cohort.days,
        rules=len(in_force),
        score=score(judgements, in_force, cohort.acceptance),
        judgements=judgements,
        differences=None if compare is None else tuple(other for _, _, other in found if other is not None),
    )
