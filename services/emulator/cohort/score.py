"""Pages against truth: sensitivity, time to page against the deadline, false pages, share of high, flapping.

A **page** is an alert event that raises with priority high or medium while no open parent stands for it. A high hazard
is *paged in time* when a page of priority high that it explains was recorded by its deadline; for a medium one any page
counts, and a low one needs no page but an alert of its rules. A page that no injected hazard of its pump explains
(`Hazard.explains`: its rule belongs to the hazard, and it was recorded between the onset and a day after the end) is
**false**, also where it merely fell into the hours of another hazard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from statistics import median
from typing import Final

import msgspec

from services.emulator.cohort.judging import Judgement, Notice
from services.emulator.cohort.plan import Acceptance
from services.emulator.cohort.truth import Hazard, Severity
from streams.domain.alert import Priority

PATIENT_YEAR_DAYS: Final = 365.25


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one hazard. ``judged``: at least one of its rules is in force."""

    hazard: Hazard
    judged: bool
    in_time: bool
    known_after: timedelta | None
    known_by_rule: str | None

    @property
    def allowed(self) -> timedelta:
        """Time from onset to deadline."""
        return self.hazard.know_by - self.hazard.onset

    @property
    def spent(self) -> float | None:
        """Time to page as a share of the time allowed; None when nobody was paged."""
        return self.known_after / self.allowed if self.known_after is not None and self.allowed else None


class KindScore(msgspec.Struct, frozen=True, kw_only=True):
    """All hazards of one kind; times in minutes."""

    kind: str
    severity: str
    covers: tuple[str, ...]
    rules: tuple[str, ...]
    hazards: int
    judged: int
    in_time: int
    late: int
    missed: int
    held_back: int
    median_minutes: float | None
    slowest_share: float | None


class RuleScore(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. ``expected`` hazards name it; ``seen`` of them it saw by their deadline. Rates per patient-year."""

    rule_id: str
    in_force: bool
    expected: int
    seen: int
    median_minutes: float | None
    pages: int
    false_pages: int
    false_high_pages: int
    false_per_patient_year: float
    alerts: int
    high_share: float | None
    flaps: int


class Miss(msgspec.Struct, frozen=True, kw_only=True):
    """A judged hazard that was not known in time."""

    hazard_id: str
    severity: str
    onset: str
    know_by: str
    known_after_minutes: float | None


class FalsePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page that nothing explains, with the hazards that were nearest on the same pump."""

    pump_id: str
    rule_id: str
    priority: str
    recorded_at: str
    effective_at: str
    near: tuple[str, ...]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The whole cohort's score."""

    patient_years: float
    reports: int
    hazards: int
    not_judged: int
    sensitivity_high: float | None
    sensitivity_medium: float | None
    sensitivity_low: float | None
    pages: int
    false_pages: int
    false_high_pages: int
    false_per_patient_year: float
    false_high_per_patient_year: float
    alerts: int
    background_alerts: int
    background_high_share: float
    flaps_per_patient_year: float
    kinds: tuple[KindScore, ...]
    rules: tuple[RuleScore, ...]
    missed: tuple[Miss, ...]
    false: tuple[FalsePage, ...]
    failures: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether everything that could be judged met the acceptance."""
        return not self.failures


def outcome(hazard: Hazard, notices: Sequence[Notice], in_force: frozenset[str]) -> Outcome:
    """What the notices of a hazard's pump made of it."""
    found = next((notice for notice in notices if _tells(hazard, notice)), None)
    after = found.recorded_at - hazard.onset if found else None
    return Outcome(
        hazard=hazard,
        judged=not in_force.isdisjoint(hazard.rules),
        in_time=found is not None and found.recorded_at <= hazard.know_by,
        known_after=after,
        known_by_rule=found.rule_id if found else None,
    )


def _tells(hazard: Hazard, notice: Notice) -> bool:
    if not hazard.explains(notice.rule_id, notice.recorded_at):
        return False
    if hazard.severity is Severity.LOW:
        return notice.rule_id in hazard.rules
    return notice.page and (hazard.severity is Severity.MEDIUM or notice.priority is Priority.HIGH)


def score(judgements: Iterable[Judgement], in_force: frozenset[str], limits: Acceptance) -> Score:
    """Score all pumps of a cohort; ``in_force`` are the ids of the rules that were judged."""
    everyone = list(judgements)
    years = sum(judgement.days for judgement in everyone) / PATIENT_YEAR_DAYS
    outcomes = [
        outcome(hazard, judgement.notices, in_force)
        for judgement in everyone
        for hazard in judgement.hazards
        if hazard.rules
    ]
    false = [(judgement, notice) for judgement in everyone for notice in _unexplained(judgement)]
    background = [priority for judgement in everyone for priority in _background(judgement)]
    high = [notice for _, notice in false if notice.priority is Priority.HIGH]
    known = {severity: _sensitivity(outcomes, severity) for severity in Severity}
    background_high = sum(priority is Priority.HIGH for priority in background)
    found = Score(
        patient_years=years,
        reports=sum(judgement.reports for judgement in everyone),
        hazards=len(outcomes),
        not_judged=sum(not outcome.judged for outcome in outcomes),
        sensitivity_high=known[Severity.HIGH],
        sensitivity_medium=known[Severity.MEDIUM],
        sensitivity_low=known[Severity.LOW],
        pages=sum(notice.page for judgement in everyone for notice in judgement.notices),
        false_pages=len(false),
        false_high_pages=len(high),
        false_per_patient_year=_rate(len(false), years),
        false_high_per_patient_year=_rate(len(high), years),
        alerts=sum(len(judgement.alerts) for judgement in everyone),
        background_alerts=len(background),
        background_high_share=background_high / len(background) if background else 0.0,
        flaps_per_patient_year=_rate(sum(sum(judgement.flaps.values()) for judgement in everyone), years),
        kinds=_kinds(outcomes),
        rules=_rules(everyone, outcomes, false, in_force, years),
        missed=tuple(_miss(outcome) for outcome in outcomes if outcome.judged and not outcome.in_time),
        false=tuple(_false_page(judgement, notice) for judgement, notice in false),
        failures=(),
    )
    return msgspec.structs.replace(found, failures=failures(found, limits))


def failures(found: Score, limits: Acceptance) -> tuple[str, ...]:
    """Which limits were not met, in words; none when all were."""
    said = []
    if found.sensitivity_high is not None and found.sensitivity_high < limits.sensitivity_high:
        said.append(f"high hazards paged in time: {found.sensitivity_high:.2%}, at least {limits.sensitivity_high:.0%}")
    for name, value, limit in (
        ("false high pages per patient-year", found.false_high_per_patient_year, limits.false_high_per_patient_year),
        ("false pages per patient-year", found.false_per_patient_year, limits.false_per_patient_year),
        ("share of high beside hazards", found.background_high_share, limits.high_share),
    ):
        if value > limit:
            said.append(f"{name}: {value:.3f}, at most {limit:g}")
    return tuple(said)


def _unexplained(judgement: Judgement) -> list[Notice]:
    return [
        notice
        for notice in judgement.notices
        if notice.page and not any(hazard.explains(notice.rule_id, notice.recorded_at) for hazard in judgement.hazards)
    ]


def _background(judgement: Judgement) -> list[Priority]:
    """The priorities of the alerts that no hazard explains."""
    return [
        priority
        for rule_id, priority, at in judgement.alerts
        if not any(_explains_alert(hazard, rule_id, at, judgement) for hazard in judgement.hazards)
    ]


def _explains_alert(hazard: Hazard, rule_id: str, since: object, judgement: Judgement) -> bool:
    """Whether any notice of the alert that began then is put down to the hazard."""
    return any(
        hazard.explains(rule_id, notice.recorded_at)
        for notice in judgement.notices
        if notice.rule_id == rule_id and notice.effective_at == since
    )


def _sensitivity(outcomes: Iterable[Outcome], severity: Severity) -> float | None:
    judged = [outcome for outcome in outcomes if outcome.judged and outcome.hazard.severity is severity]
    return sum(outcome.in_time for outcome in judged) / len(judged) if judged else None


def _rate(count: int, years: float) -> float:
    return count / years if years else 0.0


def _minutes(spans: Iterable[timedelta]) -> float | None:
    found = [span / timedelta(minutes=1) for span in spans]
    return round(median(found), 2) if found else None


def _kinds(outcomes: Sequence[Outcome]) -> tuple[KindScore, ...]:
    kinds: dict[str, list[Outcome]] = {}
    for one in outcomes:
        kinds.setdefault(one.hazard.kind, []).append(one)
    return tuple(_kind(kind, kinds[kind]) for kind in sorted(kinds))


def _kind(kind: str, outcomes: Sequence[Outcome]) -> KindScore:
    judged = [one for one in outcomes if one.judged]
    spent = [one.spent for one in judged if one.spent is not None]
    late = sum(not one.in_time and one.known_after is not None for one in judged)
    hazards = [one.hazard for one in outcomes]
    return KindScore(
        kind=kind,
        severity="/".join(sorted({hazard.severity.value for hazard in hazards})),
        covers=tuple(sorted({name for hazard in hazards for name in hazard.covers})),
        rules=tuple(sorted({rule for hazard in hazards for rule in hazard.rules})),
        hazards=len(outcomes),
        judged=len(judged),
        in_time=sum(one.in_time for one in judged),
        late=late,
        missed=sum(one.known_after is None for one in judged),
        held_back=sum(hazard.held_back for hazard in hazards),
        median_minutes=_minutes(one.known_after for one in judged if one.known_after is not None),
        slowest_share=round(max(spent), 3) if spent else None,
    )


def _rules(
    everyone: Sequence[Judgement],
    outcomes: Sequence[Outcome],
    false: Sequence[tuple[Judgement, Notice]],
    in_force: frozenset[str],
    years: float,
) -> tuple[RuleScore, ...]:
    named = {rule for one in outcomes for rule in one.hazard.rules}
    return tuple(_rule(rule_id, everyone, false, in_force, years) for rule_id in sorted(named | in_force))


def _rule(
    rule_id: str,
    everyone: Sequence[Judgement],
    false: Sequence[tuple[Judgement, Notice]],
    in_force: frozenset[str],
    years: float,
) -> RuleScore:
    expected, times = 0, list[timedelta]()
    for judgement in everyone:
        for hazard in judgement.hazards:
            if rule_id in hazard.rules:
                expected += 1
                seen = (n.recorded_at for n in judgement.notices if n.rule_id == rule_id)
                first = next((at for at in seen if hazard.explains(rule_id, at)), None)
                if first is not None and first <= hazard.know_by:
                    times.append(first - hazard.onset)
    mine = [notice for _, notice in false if notice.rule_id == rule_id]
    alerts = [priority for judgement in everyone for name, priority, _ in judgement.alerts if name == rule_id]
    return RuleScore(
        rule_id=rule_id,
        in_force=rule_id in in_force,
        expected=expected,
        seen=len(times),
        median_minutes=_minutes(times),
        pages=sum(n.page and n.rule_id == rule_id for judgement in everyone for n in judgement.notices),
        false_pages=len(mine),
        false_high_pages=sum(notice.priority is Priority.HIGH for notice in mine),
        false_per_patient_year=round(_rate(len(mine), years), 4),
        alerts=len(alerts),
        high_share=round(sum(p is Priority.HIGH for p in alerts) / len(alerts), 4) if alerts else None,
        flaps=sum(judgement.flaps.get(rule_id, 0) for judgement in everyone),
    )


def _miss(one: Outcome) -> Miss:
    after = one.known_after
    return Miss(
        hazard_id=one.hazard.hazard_id,
        severity=one.hazard.severity.value,
        onset=one.hazard.onset.isoformat(timespec="seconds"),
        know_by=one.hazard.know_by.isoformat(timespec="seconds"),
        known_after_minutes=round(after / timedelta(minutes=1), 1) if after is not None else None,
    )


def _false_page(judgement: Judgement, notice: Notice) -> FalsePage:
    week = timedelta(days=7)
    near = (h for h in judgement.hazards if h.onset - week <= notice.recorded_at <= h.until + week)
    return FalsePage(
        pump_id=judgement.pump_id,
        rule_id=notice.rule_id,
        priority=notice.priority.value,
        recorded_at=notice.recorded_at.isoformat(timespec="seconds"),
        effective_at=notice.effective_at.isoformat(timespec="seconds"),
        near=tuple(hazard.hazard_id for hazard in near),
    )
