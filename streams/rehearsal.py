"""Runs a rule's examples through the production engine: reports arrive, time passes, people resolve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import unified_diff
from itertools import zip_longest
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from pydantic import TypeAdapter, ValidationError

from streams.domain import pipeline
from streams.domain.alert import AlertEvent, AlertEventKind
from streams.domain.care import CareRecord, CareRejected, care_from
from streams.domain.deadman import DeadMan, Limits, Turn, look, passed
from streams.domain.pipeline import ResolveRefused
from streams.domain.profile import ProfileHistory, ProfileRejected, PumpProfile, profile_from
from streams.domain.rule import Rule, RuleBook
from streams.domain.silence import Hearing
from streams.domain.system import SYSTEM_CONDITIONS, Observation, OpenSystemAlert, SystemBook
from streams.domain.telemetry import Received, Rejected, validate
from streams.domain.world import World
from streams.rulebook import examples

START: Final = datetime(2026, 11, 2, tzinfo=UTC)
"""Offset zero of every example."""
DEFAULT_PROFILE: Final[Mapping[str, Any]] = {
    "pump_id": "EX-1",
    "site": "example",
    "valid_from": "2020-01-01",
    "family": "synchromed_ii",
    "reservoir_ml": 20,
    "drugs": [{"name": "baclofen", "concentration_ug_per_ml": 500.0}],
    "prescribed_ug_per_day": 240.0,
}
"""Unless an example says otherwise: baclofen (B 6 h), 20 mL, not R1, SynchroMed II (rules_catalogue.md A.7)."""
_DURATION: Final = TypeAdapter(timedelta)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An alert event and the service time at which the engine published it."""

    recorded_at: datetime
    event: AlertEvent


@dataclass(frozen=True, slots=True)
class Failure:
    """An example of a rule that does not come out as its file says."""

    rule_id: str
    example: str
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.rule_id}: example {self.example!r}: {self.reason}"


class ExampleError(ValueError):
    """An example cannot be run: a report or profile in it is not valid."""


def moment(offset: str) -> datetime:
    """The time at an ISO 8601 duration since the example's start."""
    return START + _DURATION.validate_python(offset)


def profiles_of(
    overrides: Mapping[str, Any] | None,
    later: Iterable[Mapping[str, Any]] = (),
    care: Iterable[Mapping[str, Any]] = (),
    zone: tzinfo = UTC,
) -> ProfileHistory:
    """What is known of the example's pump beside its telemetry.

    Args:
        overrides: What its profile says otherwise than `DEFAULT_PROFILE`; None means that the pump has none.
        later: Later versions, each on top of the one before, from the offset ``from`` on.
        care: Care records as in `streams.domain.care`, with offsets ``from`` and ``until``.
        zone: The site's time zone.
    """
    document = {**DEFAULT_PROFILE, **(overrides or {})}
    versions = [] if overrides is None else [document]
    for change in later:
        fields = {key: value for key, value in change.items() if key != "from"}
        document = {**document, **fields, "valid_from": moment(change["from"]).isoformat()}
        versions.append(document)
    records = tuple(_care(entry, number) for number, entry in enumerate(care))
    return ProfileHistory(tuple(_profile(version, zone) for version in versions), records, zone)


def _profile(document: Mapping[str, Any], zone: tzinfo) -> PumpProfile:
    profile = profile_from(document, zone)
    if isinstance(profile, ProfileRejected):
        raise ExampleError(f"profile{profile.pointer}: {profile.reason}")
    return profile


def _care(entry: Mapping[str, Any], number: int) -> CareRecord:
    fields = {key: value for key, value in entry.items() if key not in ("from", "until")}
    document = {
        "care_id": f"CARE-{number}",
        "pump_id": "EX-1",
        "person": "example",
        "reason": "example",
        "valid_from": moment(entry["from"]).isoformat(),
        **({"valid_until": moment(entry["until"]).isoformat()} if "until" in entry else {}),
        **fields,
    }
    record = care_from(document)
    if isinstance(record, CareRejected):
        raise ExampleError(f"care record {number}{record.pointer}: {record.reason}")
    return record


def received_of(entry: Mapping[str, Any], number: int) -> Received:
    """A report of an example: ``at`` its event time, ``arrives`` its arrival if later, the rest as on the wire.

    ``clinic: true`` says that it came through a clinic's gateway.
    """
    fields = {key: value for key, value in entry.items() if key not in ("at", "arrives", "clinic")}
    events = [_placed(event) for event in fields.pop("events", [])]
    at, arrives = moment(entry["at"]), moment(entry.get("arrives", entry["at"]))
    document = {
        "schema_version": 1,
        "pump_id": "EX-1",
        "boot_id": 1,
        "seq": number,
        "event_time": at,
        "gateway_id": "GW-1",
        "gateway_time": arrives,
        "events": events,
        **fields,
    }
    report = validate(msgspec.json.encode(document), arrives)
    if isinstance(report, Rejected):
        raise ExampleError(f"report {number}{report.pointer}: {report.reason}")
    return Received(report=report, received_at=arrives, clinic=bool(entry.get("clinic")))


def _placed(event: Mapping[str, Any]) -> dict[str, Any]:
    return {**event, **{name: moment(event[name]).isoformat() for name in ("at", "for") if name in event}}


def rehearse(
    reports: Iterable[Received],
    profiles: ProfileHistory,
    rules: RuleBook,
    until: datetime,
    resolutions: Iterable[tuple[datetime, str]] = (),
) -> tuple[World, list[Recorded]]:
    """Run a pump's life: reports by arrival, a tick at every deadline, resolutions by (time, rule id).

    Returns:
        The world at ``until`` and everything that was published, oldest first.
    """
    world, told = pipeline.new_world("EX-1"), list[Recorded]()
    inputs: list[tuple[datetime, Received | str]] = [(received.received_at, received) for received in reports]
    inputs.extend(resolutions)
    inputs.sort(key=lambda pair: pair[0])
    for at, action in [*inputs, (until, None)]:
        world = _tick_until(world, profiles, rules, at, told)
        if isinstance(action, Received):
            step = pipeline.step(world, action, profiles, rules, at)
        elif isinstance(action, str):
            step = _resolved(world, profiles, rules, at, action)
        else:
            break
        world = step.world
        told.extend(Recorded(at, event) for event in step.events)
    return world, told


def _resolved(world: World, profiles: ProfileHistory, rules: RuleBook, at: datetime, rule_id: str) -> pipeline.Step:
    for record in world.ledger:
        if record.rule_id == rule_id and record.open:
            step = pipeline.resolve(world, profiles, rules, record.alert_id, at, "example")
            return pipeline.Step(world, ()) if isinstance(step, ResolveRefused) else step
    return pipeline.Step(world, ())


def _tick_until(
    world: World, profiles: ProfileHistory, rules: RuleBook, until: datetime, told: list[Recorded]
) -> World:
    while world.next_wake_at is not None and world.next_wake_at <= until:
        now = world.next_wake_at
        step = pipeline.tick(world, profiles, rules, now, Hearing(since=START, until=now))
        told.extend(Recorded(now, event) for event in step.events)
        world = step.world
    return world


# Examples as tests -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trial:
    """One example that was run: a line for each expected event, and for each that the rule told."""

    expected: tuple[str, ...]
    got: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the rule did exactly what its file says."""
        return self.expected == self.got

    def difference(self) -> str:
        """The first line in which they differ, in words."""
        for got, expected in zip(self.got, self.expected, strict=False):
            if got != expected:
                return f"expected {expected}, got {got}"
        if len(self.got) > len(self.expected):
            return f"got {self.got[len(self.expected)]} beyond what is expected"
        return f"expected {self.expected[len(self.got)]}, got nothing more"

    def diff(self) -> str:
        """The two lists against each other, as a unified diff without its heading; empty when they are the same."""
        lines = unified_diff(self.expected, self.got, "expected", "got", n=20, lineterm="")
        return "\n".join(line for line in lines if not line.startswith("@@"))


def try_example(rule: Rule, example: Mapping[str, Any], rules: RuleBook) -> Trial:
    """Run one example of a rule through the engine; the other rules of the book take part.

    Amended facts count only where the example expects some. A rule of the system itself is tried by what it would
    observe.

    Raises:
        ExampleError: If a report, profile, care record or observation in it is not valid.
    """
    if "observations" in example:
        return _try_observations(rule, example)
    if "passes" in example:
        return _try_switch(rule, example)
    reports = [received_of(entry, number) for number, entry in enumerate(example["reports"])]
    resolutions = [(moment(offset), rule.id) for offset in example["resolve"]]
    zone = ZoneInfo(example["time_zone"])
    known = profiles_of(example["profile"], example["profiles"], example["care"], zone)
    _, told = rehearse(reports, known, rules, moment(example["until"]), resolutions)
    expected: list[Mapping[str, Any]] = example["expect"]
    amendments = any(fact["event"] == "amended" for fact in expected)
    mine = [
        one
        for one in told
        if one.event.alert.rule_id == rule.id and (amendments or one.event.kind is not AlertEventKind.AMENDED)
    ]
    pairs = zip_longest(mine, expected[: len(mine)], fillvalue=None)
    got = tuple(_told_line(one, fact) for one, fact in pairs if one is not None)
    return Trial(tuple(_expected_line(fact) for fact in expected), got)


def _try_observations(rule: Rule, example: Mapping[str, Any]) -> Trial:
    book = SystemBook([(rule, SYSTEM_CONDITIONS[rule.condition_name])], START)
    known: list[OpenSystemAlert] = []
    got: list[tuple[datetime, str, OpenSystemAlert]] = []
    for entry in example["observations"]:
        seen = _observation(entry)
        verdict = book.judge(seen, known)
        closed = [(seen.at, "cleared", alert) for alert in verdict.closes]
        opened = [
            (seen.at, "opened", OpenSystemAlert(finding.rule_id, finding.subject, finding.priority))
            for finding in verdict.opens
        ]
        known = [alert for alert in known if alert not in verdict.closes] + [alert for _, _, alert in opened]
        got.extend((*closed, *opened))
    expected: list[Mapping[str, Any]] = example["expect"]
    lines = []
    for index, (at, event, alert) in enumerate(got):
        brief = index < len(expected) and expected[index]["priority"] is None
        lines.append(_system_line(at, event, alert.subject, None if brief else alert.priority))
    wanted = [_system_line(moment(fact["at"]), fact["event"], fact["subject"], fact["priority"]) for fact in expected]
    return Trial(tuple(wanted), tuple(lines))


def _try_switch(rule: Rule, example: Mapping[str, Any]) -> Trial:
    limits = Limits.of(rule.parameters)
    man, passes = DeadMan(START), {moment(offset) for offset in example["passes"]}
    got: list[str] = []
    now, until = START, moment(example["until"])
    while now <= until:
        if now in passes:
            man, turn = passed(man, now, limits)
            got.extend(_turn_line(now, turn))
        turns = True
        while turns:
            man, turn = look(man, now, limits)
            got.extend(_turn_line(now, turn))
            turns = turn is not None
        now += timedelta(seconds=1)
    wanted = tuple(f"at {offset_of(moment(fact['at']))}  {fact['event']}" for fact in example["expect"])
    return Trial(wanted, tuple(got))


def _turn_line(at: datetime, turn: Turn | None) -> list[str]:
    return [f"at {offset_of(at)}  {turn.value}"] if turn is not None else []


def _observation(entry: Mapping[str, Any]) -> Observation:
    fields = {**entry, "at": moment(entry["at"])}
    try:
        return _OBSERVATION.validate_python(fields)
    except ValidationError as error:
        raise ExampleError(f"observation at {entry['at']}: {error}") from error


_OBSERVATION: Final = TypeAdapter(Observation)


def _system_line(at: datetime, event: str, subject: str, priority: str | None) -> str:
    words = [f"priority {priority}"] if priority is not None else []
    return "  ".join([f"at {offset_of(at)}", event, subject, *words])


def _expected_line(fact: Mapping[str, Any]) -> str:
    said = [f"{name} {fact[name]}" for name in ("priority", "reason") if fact[name] is not None]
    recorded = [f"recorded {offset_of(moment(fact['recorded']))}"] if fact["recorded"] is not None else []
    return "  ".join([f"at {offset_of(moment(fact['at']))}", fact["event"], *said, *recorded])


def _told_line(one: Recorded, fact: Mapping[str, Any] | None) -> str:
    """What was told, with as many words as the expectation at its place uses; all of them where there is none."""
    event = one.event
    said = {"priority": event.alert.priority.value, "reason": str(event.reason)}
    words = [f"{name} {value}" for name, value in said.items() if fact is None or fact[name] is not None]
    recorded = [f"recorded {offset_of(one.recorded_at)}"] if fact is not None and fact["recorded"] is not None else []
    return "  ".join([f"at {offset_of(event.effective_at)}", event.kind.value, *words, *recorded])


def offset_of(at: datetime) -> str:
    """A time as the ISO 8601 duration since the example's start, in days, hours, minutes and seconds."""
    return str(_DURATION.dump_python(at - START, mode="json"))


def failures(rules: RuleBook) -> Iterator[Failure]:
    """Every example of every rule that does not hold, with what it expected and what it got."""
    for rule, example in examples(rules):
        try:
            trial = try_example(rule, example, rules)
        except Exception as error:  # noqa: BLE001 - a rule that cannot judge its own example is what is looked for
            yield Failure(rule.id, example["name"], f"{type(error).__name__}: {error}")
            continue
        if not trial.passed:
            yield Failure(rule.id, example["name"], trial.difference())
