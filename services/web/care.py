"""What people know of a pump, as the page shows it and takes it in: plans, bookings, absences, reviews, settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Any, Final, TypeAlias

import asyncpg

from services.web.access import Visit
from streams import care_records, profile_histories
from streams.care_records import Entry, WithdrawRefused, new_id
from streams.domain.care import CareKind, CareRecord, CareRejected
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook, default_parameters

STATEMENT_SECONDS: Final = 5.0
ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""Of a pump and of a care record."""
MOST_PAST: Final = 50
"""Records that count no more, shown on one page; the newest."""
ONE_COUNTS: Final = frozenset({CareKind.REFILL_BOOKED, CareKind.REPLACEMENT_BOOKED})
"""Of these the latest alone is what rules read."""

Pool: TypeAlias = "asyncpg.Pool[Any]"


class State(StrEnum):
    """Whether a record counts."""

    NOW = "counts now"
    LATER = "counts later"
    OVERTAKEN = "overtaken by a later one"
    DAY_PASSED = "its day has passed"
    ENDED = "has ended"
    WITHDRAWN = "withdrawn"


COUNTS: Final = frozenset({State.NOW, State.LATER})


@dataclass(frozen=True, slots=True)
class Item:
    """A record as a line of the page; people by the names that others know them by."""

    entry: Entry
    state: State
    person: str
    withdrawn_by: str | None

    @property
    def record(self) -> CareRecord:
        """The record itself."""
        return self.entry.record

    @property
    def can_be_withdrawn(self) -> bool:
        """Whether taking it back would change anything."""
        return self.state not in (State.ENDED, State.WITHDRAWN)


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that may be set for one patient, with the value in force and how far the other way it may go."""

    rule_id: str
    title: str
    parameter: str
    default: float
    loosest: float
    tighter: str

    @property
    def name(self) -> str:
        """As the form sends it."""
        return f"{self.rule_id}/{self.parameter}"


@dataclass(frozen=True, slots=True)
class Known:
    """All that people know of a pump: what counts, what comes, and the newest of what counts no more."""

    items: tuple[Item, ...]
    zone: str
    choices: tuple[Choice, ...]
    reviewable: tuple[tuple[str, str], ...]
    form_id: str
    """Of the record that a form on this page makes, so that sending it twice makes one."""

    @property
    def counting(self) -> tuple[Item, ...]:
        """What rules read now or will read."""
        return tuple(item for item in self.items if item.state in COUNTS)

    @property
    def past(self) -> tuple[Item, ...]:
        """What they read no more, the newest first."""
        past = [item for item in self.items if item.state not in COUNTS]
        return tuple(sorted(past, key=_newest_first, reverse=True)[:MOST_PAST])


def _newest_first(item: Item) -> datetime:
    return item.entry.recorded_at


async def of_pump(visit: Visit, pump_id: str) -> Known:
    """What is known of a pump at this moment."""
    pool, rules = visit.desk.store.pool, visit.desk.rules
    history = (await profile_histories.read(pool, [pump_id]))[pump_id]
    entries = await care_records.list_all(pool, pump_id)
    return Known(
        items=await _items(pool, entries, history.zone, visit.now),
        zone=str(history.zone),
        choices=tuple(_choices(rules, history, visit.now)),
        reviewable=tuple(sorted((rule.id, rule.title) for rule in rules if rule.lives_in == "worker")),
        form_id=new_id(),
    )


async def find(visit: Visit) -> Item | None:
    """The record that the request's address names."""
    pool = visit.desk.store.pool
    care_id = visit.request.path_params["care_id"]
    entry = await care_records.show(pool, care_id) if ID.fullmatch(care_id) else None
    if entry is None:
        return None
    pump_id = entry.record.pump_id
    history = (await profile_histories.read(pool, [pump_id]))[pump_id]
    items = await _items(pool, await care_records.list_all(pool, pump_id), history.zone, visit.now)
    return next((item for item in items if item.record.care_id == care_id), None)


async def _items(pool: Pool, entries: Sequence[Entry], zone: tzinfo, now: datetime) -> tuple[Item, ...]:
    names = await _names(pool, entries)
    states = _states(entries, zone, now)
    return tuple(
        Item(
            entry,
            states[entry.record.care_id],
            names.get(entry.record.person, entry.record.person),
            names.get(entry.withdrawn_by or "", entry.withdrawn_by),
        )
        for entry in entries
    )


def _states(entries: Sequence[Entry], zone: tzinfo, now: datetime) -> Mapping[str, State]:
    """Entries are in the order in which they begin, so that the last one wins."""
    states: dict[str, State] = {}
    latest: dict[CareKind, str] = {}
    for entry in entries:
        record = entry.record
        states[record.care_id] = _state(record, zone, now)
        if record.kind in ONE_COUNTS and record.in_force(now):
            if overtaken := latest.get(record.kind):
                states[overtaken] = State.OVERTAKEN
            latest[record.kind] = record.care_id
    return states


def _state(record: CareRecord, zone: tzinfo, now: datetime) -> State:
    if record.withdrawn_at is not None and record.withdrawn_at <= now:
        return State.WITHDRAWN
    if record.ends_at is not None and record.ends_at <= now:
        return State.ENDED
    if record.booked_on is not None and record.booked_on < now.astimezone(zone).date():
        return State.DAY_PASSED
    return State.NOW if record.valid_from <= now else State.LATER


async def _names(pool: Pool, entries: Iterable[Entry]) -> Mapping[str, str]:
    wanted = {name for entry in entries for name in (entry.record.person, entry.withdrawn_by) if name}
    rows = await pool.fetch(
        "SELECT person_id, display_name FROM person WHERE person_id = ANY($1)", list(wanted), timeout=STATEMENT_SECONDS
    )
    return {row["person_id"]: row["display_name"] for row in rows}


def _choices(rules: RuleBook, history: ProfileHistory, now: datetime) -> Iterable[Choice]:
    therapy = history.therapy(now)
    for rule in sorted(rules, key=lambda rule: rule.id):
        defaults = default_parameters(rule, therapy)
        for name, setting in sorted(rule.settings.items()):
            if name in defaults:
                yield Choice(rule.id, rule.title, name, float(defaults[name]), setting.loosest, setting.tighter)


# Taking in ------------------------------------------------------------------------------------------------------------


async def add(visit: Visit, document: Mapping[str, Any]) -> CareRecord | CareRejected:
    """Enter what the person who is signed in knows of the pump that the address names."""
    outcome = await _add(visit, document)
    counted = "refused" if isinstance(outcome, CareRejected) else "done"
    visit.desk.metrics.actions.labels("care_add", counted).inc()
    return outcome


async def _add(visit: Visit, document: Mapping[str, Any]) -> CareRecord | CareRejected:
    mine = {"pump_id": visit.request.path_params["pump_id"], "person": visit.person.person_id}
    for name, value in mine.items():
        if document.get(name, value) != value:
            return CareRejected(f"/{name}", f"is {value} here; leave it out")
    store = visit.desk.store
    return await care_records.add(store.pool, {**document, **mine}, visit.person.person_id, visit.now, visit.desk.rules)


async def add_by_form(visit: Visit) -> CareRecord | CareRejected:
    """The same from a form, whose times are the site's; a form that is sent twice makes one record."""
    pool, pump_id = visit.desk.store.pool, visit.request.path_params["pump_id"]
    care_id = visit.fields.get("care_id", "")
    sent = await care_records.show(pool, care_id) if ID.fullmatch(care_id) else None
    if sent is not None and sent.record.pump_id == pump_id and sent.recorded_by == visit.person.person_id:
        return sent.record
    history = (await profile_histories.read(pool, [pump_id]))[pump_id]
    document = document_of(visit.fields, history.zone)
    return document if isinstance(document, CareRejected) else await add(visit, document)


async def withdraw(visit: Visit, care_id: str) -> CareRecord | WithdrawRefused:
    """Take a record back, for the reason in the form."""
    reason = " ".join(visit.fields.get("reason", "").split())
    outcome: CareRecord | WithdrawRefused
    try:
        pool = visit.desk.store.pool
        outcome = await care_records.withdraw(pool, care_id, visit.person.person_id, reason, visit.now)
    except WithdrawRefused as refused:
        outcome = refused
    counted = "refused" if isinstance(outcome, WithdrawRefused) else "done"
    visit.desk.metrics.actions.labels("care_withdraw", counted).inc()
    return outcome


def document_of(fields: Mapping[str, str], zone: tzinfo) -> dict[str, Any] | CareRejected:
    """A form's fields as a care record's JSON object; what was left empty is left out.

    Args:
        fields: Times as ``datetime-local`` sends them: without an offset, in ``zone``.
        zone: The site's.
    """
    said = {name: " ".join(text.split()) for name, text in fields.items()}
    document: dict[str, Any] = {
        name: said[name]
        for name in ("care_id", "kind", "reason", "booked_on", "session_id", "rule_id")
        if said.get(name)
    }
    if said.get("kind") == CareKind.SESSION:
        # The form asks for it, but who does not have it at hand need not make one up.
        document.setdefault("session_id", said.get("care_id") or new_id())
    if choice := said.get("choice"):
        document["rule_id"], _, document["parameter"] = choice.partition("/")
    for name in ("valid_from", "valid_until"):
        if text := said.get(name):
            moment = _moment(text, zone)
            if moment is None:
                return CareRejected(f"/{name}", "is not a day and a time of day")
            document[name] = moment.isoformat()
    if text := said.get("value"):
        try:
            document["value"] = float(text.replace(",", "."))
        except ValueError:
            return CareRejected("/value", "is not a number")
    return document


def _moment(text: str, zone: tzinfo) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
