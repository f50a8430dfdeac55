"""The same as JSON, for programs that act for a person who is signed in. Errors are RFC 9457 problem documents."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.responses import Response

from services.web import actions, alerts, care, pumps
from services.web.access import Refused, Visit, problem
from services.web.actions import Result
from services.web.alerts import Alert, Fact
from services.web.care import Item
from services.web.pages import PLOTTED, PUMP_ID, RECENT, titles
from streams.care_records import WithdrawRefused
from streams.domain.care import CareRejected, care_document


async def list_alerts(visit: Visit) -> Response:
    """Open alerts; with ``show=recent`` those of the last seven days."""
    pool = visit.desk.store.pool
    recent = visit.request.query_params.get("show") == "recent"
    listing = await (alerts.recent_alerts(pool, visit.now - RECENT) if recent else alerts.open_alerts(pool))
    named = titles(visit)
    return _json({"alerts": [_alert(alert, named) for alert in listing.alerts], "more": listing.more})


async def one_alert(visit: Visit) -> Response:
    """An alert with its story."""
    found = await actions.find(visit)
    if found is None:
        return problem(404, "there is no such alert")
    story = [
        {"type": "event" if isinstance(item, Fact) else "notification", **asdict(item)}
        for item in await alerts.story(visit.desk.store.pool, found.alert_id)
    ]
    return _json({**_alert(found, titles(visit)), "story": story})


async def readings(visit: Visit) -> Response:
    """A pump's readings as columns, from ``since`` (RFC 3339; the last 24 hours without it; at most seven days)."""
    pump_id = await _pump_id(visit)
    pool = visit.desk.store.pool
    since = max(_since(visit), visit.now - pumps.LONGEST)
    found = await pumps.readings(pool, pump_id, since, visit.now)
    return _json(pumps.columns(pump_id, found, since, visit.now))


async def list_care(visit: Visit) -> Response:
    """What people know of a pump that counts now or later; with ``show=all`` also what counted once."""
    known = await care.of_pump(visit, await _pump_id(visit))
    whole = visit.request.query_params.get("show") == "all"
    return _json({"care": [_item(item) for item in (known.items if whole else known.counting)]})


async def add_care(visit: Visit) -> Response:
    """Enter a record: a JSON object as `streams.domain.care.CareRecord`, whose person is who is signed in.

    With a ``care_id`` and a ``valid_from`` of the program's own, sending it again changes nothing.
    """
    await _pump_id(visit)
    outcome = await care.add(visit, {name: value for name, value in visit.document.items() if name != "csrf"})
    if isinstance(outcome, CareRejected):
        return problem(422, outcome.reason, pointer=outcome.pointer)
    return _json(care_document(outcome), 201)


async def withdraw_care(visit: Visit) -> Response:
    """Take a record back with a ``reason``."""
    found = await care.find(visit)
    if found is None:
        return problem(404, "there is no such care record")
    outcome = await care.withdraw(visit, found.record.care_id)
    if isinstance(outcome, WithdrawRefused):
        if not found.can_be_withdrawn:
            return problem(409, outcome.reason)
        return problem(422, outcome.reason, pointer="/reason")
    return _json(care_document(outcome))


async def confirm(visit: Visit) -> Response:
    """Take an alert; ``raised_at`` is optional and refuses one that was raised again since."""
    return _result(visit, await actions.confirm(visit))


async def resolve(visit: Visit) -> Response:
    """Close an alert with ``reason`` (a code of the closed list) and optional ``text``."""
    return _result(visit, await actions.resolve(visit))


async def seen(visit: Visit) -> Response:
    """The person who was told of the alert has it on the screen."""
    found = await actions.find(visit)
    if found is None:
        return problem(404, "there is no such alert")
    await alerts.seen_by(visit.desk.store.pool, found.alert_id, visit.person.person_id, visit.now)
    return Response(status_code=204)


async def active(_: Visit) -> Response:
    """The person does something on an open page; that alone keeps the session from being idle."""
    return Response(status_code=204)


def _result(visit: Visit, result: Result) -> Response:
    if result.status >= 400:
        current = _alert(result.alert, titles(visit)) if result.alert else None
        return problem(result.status, result.words, outcome=result.outcome, alert=_plain(current))
    return _json({"outcome": result.outcome, "alert": _alert(result.alert, titles(visit)) if result.alert else None})


async def _pump_id(visit: Visit) -> str:
    """Of the pump that the address names."""
    pump_id: str = visit.request.path_params["pump_id"]
    if not PUMP_ID.fullmatch(pump_id) or await pumps.find(visit.desk.store.pool, pump_id) is None:
        raise Refused(404, "there is no such pump")
    return pump_id


def _item(item: Item) -> dict[str, Any]:
    entry = item.entry
    return {
        **care_document(entry.record),
        "state": item.state,
        "person_name": item.person,
        "recorded_at": entry.recorded_at,
        "recorded_by": entry.recorded_by,
        "withdrawn_by": entry.withdrawn_by,
        "withdrawal_reason": entry.withdrawal_reason,
    }


def _since(visit: Visit) -> datetime:
    text = visit.request.query_params.get("since")
    if text is None:
        return visit.now - PLOTTED
    try:
        since = datetime.fromisoformat(text)
        # A plus sign in an address is a space; astimezone refuses the ends of the calendar.
        return since.astimezone(UTC) if since.tzinfo else since.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(400, "since must be an RFC 3339 time, with a plus sign written as %2B.") from error


def _alert(alert: Alert, named: dict[str, str]) -> dict[str, Any]:
    fields = asdict(alert)
    return {
        **fields,
        "title": named.get(alert.rule_id, alert.rule_id),
        "open": alert.open,
        "confirmed": alert.confirmed,
    }


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
