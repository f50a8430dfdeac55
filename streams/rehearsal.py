"""Runs a rule's examples through the production engine: reports arrive, time passes, people resolve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from pydantic import TypeAdapter

from streams.domain import pipeline
from streams.domain.alert import AlertEvent
from streams.domain.care import CareRecord, CareRejected, care_from
from streams.domain.pipeline import Hearing, ResolveRefused
from streams.domain.profile import ProfileHistory, ProfileRejected, PumpProfile, profile_from
from streams.domain.rule import Rule, RuleBook
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


def outcome(
    rule: Rule, example: Mapping[str, Any], rules: RuleBook
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run one example: the rule's own events, told with the words of the expectations, and what was expected.

    Raises:
        ExampleError: If a report, profile or care record in it is not valid.
    """
    reports = [received_of(entry, number) for number, entry in enumerate(example["reports"])]
    resolutions = [(moment(offset), rule.id) for offset in example["resolve"]]
    known = profiles_of(example["profile"], example["profiles"], example["care"], ZoneInfo(example["time_zone"]))
    _, told = rehearse(reports, known, rules, moment(example["until"]), resolutions)
    got = [recorded for recorded in told if recorded.event.alert.rule_id == rule.id]
    expected: list[dict[str, Any]] = [dict(fact) for fact in example["expect"]]
    if not any(fact["event"] == "amended" for fact in expected):
        got = [recorded for recorded in got if recorded.event.kind != "amended"]
    shown = [_as_expected(recorded, fact) for recorded, fact in zip(got, expected, strict=False)]
    return [*shown, *(_as_expected(recorded, None) for recorded in got[len(expected) :])], expected


def _as_expected(recorded: Recorded, fact: Mapping[str, Any] | None) -> dict[str, Any]:
    """What happened, told with the words that the expectation uses; in full where none was left."""
    event = recorded.event
    words: dict[str, Any] = {
        "at": event.effective_at.isoformat(),
        "event": event.kind.value,
        "priority": event.alert.priority.value,
        "reason": str(event.reason),
        "recorded": recorded.recorded_at.isoformat(),
    }
    if fact is None:
        return words
    for name, at in (("at", event.effective_at), ("recorded", recorded.recorded_at)):
        if fact[name] is not None and moment(fact[name]) == at:
            words[name] = fact[name]
    return {name: word if fact[name] is not None else None for name, word in words.items()}


def failures(rules: RuleBook) -> Iterator[Failure]:
    """Every example of every rule that does not hold, the first difference of each."""
    for rule, example in examples(rules):
        try:
            got, expected = outcome(rule, example, rules)
        except Exception as error:  # noqa: BLE001 - a rule that cannot judge its own example is what is looked for
            yield Failure(rule.id, example["name"], f"{type(error).__name__}: {error}")
            continue
        if got != expected:
            yield Failure(rule.id, example["name"], _difference(got, expected))


def _difference(got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    for happened, wanted in zip(got, expected, strict=False):
        if happened != wanted:
            return f"expected {_brief(wanted)}, got {_brief(happened)}"
    if len(got) > len(expected):
        return f"got {_brief(got[len(expected)])} beyond what is expected"
    return f"expected {_brief(expected[len(got)])}, got nothing more"


def _brief(fact: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {word}" for name, word in fact.items() if word is not None)


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
