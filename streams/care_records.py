"""Care records in the database: entered by named people, withdrawn with a reason, never changed, all of it audited.

Like an import of profiles, each change moves the revision of the pumps it concerns: a worker that decided without it
cannot commit, and looks at those pumps again at once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec

from streams import profile_histories
from streams.domain.care import CareKind, CareRecord, CareRejected, care_document, care_from
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook, setting_refused
from streams.profiles import MAX_ERRORS, MAX_LINE_CHARACTERS, MAX_LINES, Imported, LineError, reconsider

STATEMENT_SECONDS: Final = 60.0
OLDEST: Final = timedelta(days=400)
FURTHEST: Final = timedelta(days=3 * 365)
"""How far ahead a record may begin or end; later is a slip of the keyboard."""
FURTHEST_BOOKING: Final = timedelta(days=15 * 365)
"""Longer than a pump lasts."""
REASON_CHARACTERS: Final = (3, 500)
_TURN: Final = 0x63617265
"""Advisory lock: who adds or withdraws does so one after the other, so that what was checked still holds."""

Pool: TypeAlias = "asyncpg.Pool[Any]"
Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"


class WithdrawRefused(Exception):
    """The record is not withdrawn, and why; ``unknown`` when there is none with this id."""

    def __init__(self, care_id: str, reason: str, *, unknown: bool = False) -> None:
        super().__init__(f"care record {care_id} {reason}")
        self.reason, self.unknown = f"it {reason}", unknown


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with who entered it and when, and, once it is withdrawn, by whom and why."""

    record: CareRecord
    recorded_at: datetime
    recorded_by: str
    withdrawn_by: str | None = None
    withdrawal_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the audit: a record was added, or withdrawn for a reason."""

    care_id: str
    change: str
    recorded_at: datetime
    recorded_by: str
    record: dict[str, Any] | None
    reason: str | None


def new_id() -> str:
    """An id for a record that has none; short enough to be typed."""
    return f"care-{secrets.token_hex(5)}"


async def add(
    pool: Pool, document: Mapping[str, Any], actor: str, now: datetime, rules: RuleBook
) -> CareRecord | CareRejected:
    """Enter one record; the same one again changes nothing.

    Args:
        pool: As the application's role.
        document: As `care_from` reads it; without ``care_id`` it gets one, without ``valid_from`` it counts from now.
        actor: Who enters it.
        now: Service time.
        rules: Against which settings and reviews are checked.

    Returns:
        The record as it is stored, or the first field that cannot be used and why.
    """
    complete = {"care_id": new_id(), "valid_from": now.isoformat(), **document}
    record = _read(complete)
    if isinstance(record, CareRejected):
        return record
    async with pool.acquire(timeout=STATEMENT_SECONDS) as connection, connection.transaction():
        outcome = await _write(connection, [record], actor, now, rules)
    [rejected] = outcome.rejected.values() if outcome.rejected else (None,)
    return rejected or record


async def import_records(pool: Pool, lines: Iterable[str], actor: str, now: datetime, rules: RuleBook) -> Imported:
    """Enter records, one JSON object per line, all or none; empty lines are skipped. The same lines again do nothing.

    A line without ``care_id`` gets one that rests on what it says.

    Args:
        pool: As the application's role.
        lines: As `care_from` reads them; ``valid_from`` and ``person`` are required.
        actor: Who enters them.
        now: Service time.
        rules: Against which settings and reviews are checked.
    """
    found, errors = read_lines(lines)
    if errors:
        return Imported(errors=tuple(errors[:MAX_ERRORS]))
    records = {record.care_id: record for record in found.values()}
    async with pool.acquire(timeout=STATEMENT_SECONDS) as connection, connection.transaction():
        outcome = await _write(connection, list(records.values()), actor, now, rules)
    numbers = {record.care_id: number for number, record in reversed(found.items())}
    errors = [
        LineError(numbers[care_id], rejected.pointer, rejected.reason) for care_id, rejected in outcome.rejected.items()
    ]
    if errors:
        return Imported(errors=tuple(sorted(errors, key=lambda error: error.line)[:MAX_ERRORS]))
    return Imported(added=outcome.added, unchanged=len(records) - outcome.added)


async def withdraw(pool: Pool, care_id: str, person: str, reason: str, now: datetime) -> CareRecord:
    """Take a record back: from now on it counts no more, and before it did.

    Args:
        pool: As the application's role.
        care_id: Which.
        person: Who takes it back.
        reason: 3 to 500 characters.
        now: Service time.

    Raises:
        WithdrawRefused: If there is no such record, it no longer counts anyway, or the reason cannot be used.
    """
    low, high = REASON_CHARACTERS
    if not low <= len(reason) <= high or not reason.isprintable():
        raise WithdrawRefused(care_id, f"needs a reason of {low} to {high} printable characters")
    async with pool.acquire(timeout=STATEMENT_SECONDS) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _TURN)
        entry = await show(connection, care_id)
        if entry is None:
            raise WithdrawRefused(care_id, "does not exist", unknown=True)
        record = entry.record
        if record.withdrawn_at is not None:
            raise WithdrawRefused(care_id, f"was withdrawn already, by {entry.withdrawn_by}")
        if record.valid_until is not None and record.valid_until <= now:
            raise WithdrawRefused(care_id, f"has ended by itself, at {record.valid_until.isoformat()}")
        await connection.execute(
            """
            INSERT INTO care_record (care_id, pump_id, change, reason, recorded_at, recorded_by)
            VALUES ($1, $2, 'withdrawn', $3, $4, $5)
            """,
            care_id,
            record.pump_id,
            reason,
            now,
            person,
        )
        await reconsider(connection, [record.pump_id], now)
    return replace(record, withdrawn_at=now)


# Writing --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Written:
    """How many were added, and by ``care_id`` why others could not be; with any of these nothing was written."""

    added: int
    rejected: Mapping[str, CareRejected]


async def _write(
    connection: Connection, records: Sequence[CareRecord], actor: str, now: datetime, rules: RuleBook
) -> _Written:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _TURN)
    stored = await _stored(connection, [record.care_id for record in records])
    rejected: dict[str, CareRejected] = {}
    fresh = []
    for record in records:
        known = stored.get(record.care_id)
        if known is None:
            fresh.append(record)
        elif known != record:
            rejected[record.care_id] = CareRejected("/care_id", "another record has this id; records never change")
    pump_ids = sorted({record.pump_id for record in fresh})
    histories = await profile_histories.read(connection, pump_ids)
    known_pumps = await _known_pumps(connection, pump_ids)
    for record in fresh:
        refusal = _unknown_pump(record, known_pumps) or refused(record, histories[record.pump_id], rules, now)
        if refusal is not None:
            rejected[record.care_id] = refusal
    if rejected or not fresh:
        return _Written(0, rejected)
    await _insert(connection, sorted(fresh, key=lambda record: (record.pump_id, record.care_id)), actor, now)
    await reconsider(connection, pump_ids, now)
    return _Written(len(fresh), {})


async def _insert(connection: Connection, records: Sequence[CareRecord], actor: str, now: datetime) -> None:
    """In the order of pumps, so that two imports lock the ends of chains in the same order."""
    await connection.execute(
        """
        INSERT INTO care_record (care_id, pump_id, change, record, recorded_at, recorded_by)
        SELECT care_id, pump_id, 'added', record, $4, $5
        FROM unnest($1::text[], $2::text[], $3::jsonb[]) WITH ORDINALITY AS new (care_id, pump_id, record, place)
        ORDER BY place
        """,
        [record.care_id for record in records],
        [record.pump_id for record in records],
        [msgspec.json.encode(care_document(record)).decode() for record in records],
        now,
        actor,
        timeout=STATEMENT_SECONDS,
    )


async def _stored(connection: Connection, care_ids: Sequence[str]) -> dict[str, CareRecord]:
    rows = await connection.fetch(
        "SELECT care_id, record::text FROM care_record WHERE care_id = ANY($1) AND change = 'added'",
        care_ids,
        timeout=STATEMENT_SECONDS,
    )
    return {row["care_id"]: profile_histories.decode_care(row["record"], None) for row in rows}


async def _known_pumps(connection: Connection, pump_ids: Sequence[str]) -> set[str]:
    rows = await connection.fetch(
        """
        SELECT pump_id FROM pump_profile WHERE pump_id = ANY($1)
        UNION SELECT pump_id FROM pump_state WHERE pump_id = ANY($1)
        """,
        pump_ids,
        timeout=STATEMENT_SECONDS,
    )
    return {row["pump_id"] for row in rows}


# Checking -------------------------------------------------------------------------------------------------------------


def refused(record: CareRecord, history: ProfileHistory, rules: RuleBook, now: datetime) -> CareRejected | None:
    """Why a record must not be entered although it is well formed; None where it may.

    Args:
        record: As `care_from` read it.
        history: What is known of its pump: its time zone and, for a setting, the rule's default.
        rules: The rules in force.
        now: Service time.
    """
    if record.rule_id is not None and rules.get(record.rule_id) is None:
        return CareRejected("/rule_id", f"there is no rule {record.rule_id}")
    if record.kind is CareKind.SETTING:
        refusal = setting_refused(rules, record, history.therapy(record.valid_from))
        if refusal is not None:
            return refusal
    return _misdated(record, history, now)


def _misdated(record: CareRecord, history: ProfileHistory, now: datetime) -> CareRejected | None:
    if not now - OLDEST <= record.valid_from <= now + FURTHEST:
        return CareRejected("/valid_from", f"must be at most {OLDEST.days} days ago or {FURTHEST.days} days ahead")
    if record.valid_until is not None:
        if record.valid_until <= now and record.kind is not CareKind.SESSION:
            return CareRejected("/valid_until", "is past: it would never count")
        if record.valid_until > now + FURTHEST:
            return CareRejected("/valid_until", f"must be at most {FURTHEST.days} days ahead")
    if record.booked_on is not None:
        first: date = record.valid_from.astimezone(history.zone).date()
        if not first <= record.booked_on <= first + FURTHEST_BOOKING:
            return CareRejected("/booked_on", f"must be {first.isoformat()}, when the record begins, or a later day")
    return None


def _unknown_pump(record: CareRecord, known: set[str]) -> CareRejected | None:
    if record.pump_id in known:
        return None
    return CareRejected("/pump_id", "no pump with this id has reported or has a profile")


def _read(document: Mapping[str, Any]) -> CareRecord | CareRejected:
    """`care_from`, with moments in UTC, for what is new: not withdrawn yet, and text that can be shown."""
    record = care_from(document)
    if isinstance(record, CareRejected):
        return record
    if record.withdrawn_at is not None:
        return CareRejected("/withdrawn_at", "a record is withdrawn by itself, after it was entered")
    for name in ("person", "reason", "session_id", "parameter"):
        if not (getattr(record, name) or "").isprintable():
            return CareRejected(f"/{name}", "has characters that cannot be shown")
    try:
        until = record.valid_until.astimezone(UTC) if record.valid_until else None
        return replace(record, valid_from=record.valid_from.astimezone(UTC), valid_until=until)
    except OverflowError:
        return CareRejected("/valid_from", "is at the end of the calendar")


def read_lines(lines: Iterable[str]) -> tuple[dict[int, CareRecord], list[LineError]]:
    """The records by the number of their line, from 1, and what is wrong with the other lines."""
    found: dict[int, CareRecord] = {}
    first: dict[str, int] = {}
    errors = []
    for number, line in enumerate(lines, start=1):
        if number > MAX_LINES:
            return {}, [LineError(number, "", f"more than {MAX_LINES} lines; split the file")]
        if not line.strip():
            continue
        outcome = _read_line(line)
        if isinstance(outcome, CareRejected):
            errors.append(LineError(number, outcome.pointer, outcome.reason))
            continue
        earlier = first.setdefault(outcome.care_id, number)
        if earlier != number and found[earlier] != outcome:
            errors.append(LineError(number, "/care_id", f"line {earlier} says something else under this id"))
            continue
        found[number] = outcome
    return found, errors


def _read_line(line: str) -> CareRecord | CareRejected:
    if len(line) > MAX_LINE_CHARACTERS:
        return CareRejected("", f"longer than {MAX_LINE_CHARACTERS} characters")
    try:
        document = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return CareRejected("", f"not JSON: {error}")
    if not isinstance(document, dict):
        return CareRejected("", "not a JSON object")
    if "care_id" not in document:
        said = msgspec.json.encode(document, order="sorted")
        document["care_id"] = f"care-{hashlib.blake2b(said, digest_size=8).hexdigest()}"
    return _read(document)


# Reading --------------------------------------------------------------------------------------------------------------


async def show(connection: Connection | Pool, care_id: str) -> Entry | None:
    """One record, or None when there is none with this id."""
    found = await _entries(connection, "added.care_id = $1", care_id)
    return found[0] if found else None


async def list_all(pool: Pool, pump_id: str | None = None, still_at: datetime | None = None) -> list[Entry]:
    """Records by pump and ``valid_from``.

    Args:
        pool: As the application's role.
        pump_id: Only this pump's.
        still_at: Only those that count at this moment or will count later.
    """
    found = await _entries(pool, "$1::text IS NULL OR added.pump_id = $1", pump_id)
    if still_at is None:
        return found
    return [entry for entry in found if (ends := entry.record.ends_at) is None or ends > still_at]


async def audit(pool: Pool, pump_id: str) -> list[Change]:
    """Everything that was ever written about a pump, in the order of writing."""
    rows = await pool.fetch(
        """
        SELECT care_id, change, recorded_at, recorded_by, record::text, reason FROM care_record WHERE pump_id = $1
        ORDER BY chain_position
        """,
        pump_id,
        timeout=STATEMENT_SECONDS,
    )
    return [Change(**{**row, "record": msgspec.json.decode(row["record"]) if row["record"] else None}) for row in rows]


async def _entries(connection: Connection | Pool, where: str, value: str | None) -> list[Entry]:
    rows = await connection.fetch(
        f"""
        SELECT added.record::text, added.recorded_at, added.recorded_by, withdrawn.recorded_at AS withdrawn_at,
               withdrawn.recorded_by AS withdrawn_by, withdrawn.reason AS withdrawal_reason
        FROM care_record AS added
        LEFT JOIN care_record AS withdrawn ON withdrawn.care_id = added.care_id AND withdrawn.change = 'withdrawn'
        WHERE added.change = 'added' AND ({where})
        """,  # noqa: S608 - constants
        value,
        timeout=STATEMENT_SECONDS,
    )
    entries = [
        Entry(
            profile_histories.decode_care(row["record"], row["withdrawn_at"]),
            row["recorded_at"],
            row["recorded_by"],
            row["withdrawn_by"],
            row["withdrawal_reason"],
        )
        for row in rows
    ]
    return sorted(entries, key=lambda entry: (entry.record.pump_id, entry.record.valid_from, entry.record.care_id))
