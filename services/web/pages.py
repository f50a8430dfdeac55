"""The pages: who reads them is on call, perhaps at three in the morning, on a phone."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from sse_starlette import EventSourceResponse
from starlette.responses import RedirectResponse, Response

from services.web import actions, alerts, care, pumps, sessions
from services.web.access import Refused, Visit, local_path
from services.web.actions import Outcome, Result
from services.web.alerts import Alert
from services.web.words import care_field, duration
from streams import people
from streams.care_records import WithdrawRefused
from streams.domain.care import CareRejected

RECENT: Final = timedelta(days=7)
PLOTTED: Final = timedelta(hours=24)
TABLE_ROWS: Final = 48
PUMP_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


async def worklist(visit: Visit) -> Response:
    """Open alerts, or those of the last seven days."""
    recent = visit.request.query_params.get("show") == "recent"
    pool = visit.desk.store.pool
    listing = await (alerts.recent_alerts(pool, visit.now - RECENT) if recent else alerts.open_alerts(pool))
    # INFO alerts ask nobody for anything.
    waiting = (alert for alert in listing.alerts if alert.open and alert.priority != "info")
    unconfirmed = sum(1 for alert in waiting if not alert.confirmed)
    return visit.page(
        "worklist.html",
        listing=listing,
        recent=recent,
        unconfirmed=unconfirmed,
        titles=titles(visit),
        refresh=f"/?show={'recent' if recent else 'open'}&auto=1",
    )


async def alert(visit: Visit) -> Response:
    """One alert and its story; a link with the alert's id leads to its number."""
    found = await actions.find(visit)
    if found is None:
        return _unknown(visit)
    if visit.request.path_params["reference"] != str(found.number):
        return RedirectResponse(f"/alerts/{found.number}", status_code=303)
    return await _alert_page(visit, found)


async def confirm(visit: Visit) -> Response:
    """The form "I have it"."""
    return await _answer(visit, await actions.confirm(visit))


async def resolve(visit: Visit) -> Response:
    """The form that closes an alert."""
    return await _answer(visit, await actions.resolve(visit))


async def pump(visit: Visit) -> Response:
    """One pump: what it last said, what rules know of it, its alerts."""
    pool, pump_id = visit.desk.store.pool, visit.request.path_params["pump_id"]
    found = await pumps.find(pool, pump_id) if PUMP_ID.fullmatch(pump_id) else None
    if found is None:
        return _unknown_pump(visit)
    since = visit.now - PLOTTED
    return visit.page(
        "pump.html",
        pump=found,
        care=await care.of_pump(visit, pump_id),
        back=f"/pumps/{pump_id}",
        alerts=await alerts.of_pump(pool, pump_id),
        titles=titles(visit),
        table=await pumps.readings(pool, pump_id, since, visit.now, TABLE_ROWS),
    )


async def pump_care(visit: Visit) -> Response:
    """Everything that people know of a pump, with the forms that add to it."""
    return await _care_page(visit)


async def add_care(visit: Visit) -> Response:
    """A form that adds to it; what was refused is shown with what the person had written."""
    pump_id = visit.request.path_params["pump_id"]
    if not PUMP_ID.fullmatch(pump_id) or await pumps.find(visit.desk.store.pool, pump_id) is None:
        return _unknown_pump(visit)
    outcome = await care.add_by_form(visit)
    if isinstance(outcome, CareRejected):
        words = f"It was not entered. {care_field(outcome.pointer)}: {outcome.reason}."
        return await _care_page(visit, words=words, status=422)
    return RedirectResponse(local_path(visit.fields.get("back") or f"/pumps/{pump_id}/care"), status_code=303)


async def care_record(visit: Visit) -> Response:
    """One record, and the form that takes it back."""
    return await _care_record_page(visit)


async def withdraw_care(visit: Visit) -> Response:
    """The form that takes a record back."""
    found = await care.find(visit)
    if found is None:
        return _unknown_care(visit)
    outcome = await care.withdraw(visit, found.record.care_id)
    if isinstance(outcome, WithdrawRefused):
        words = f"It was not withdrawn: {outcome.reason}."
        return await _care_record_page(visit, words=words, status=422 if found.can_be_withdrawn else 409)
    return RedirectResponse(f"/pumps/{found.record.pump_id}/care", status_code=303)


async def sign_in_form(visit: Visit) -> Response:
    """Name and password."""
    target = local_path(visit.request.query_params.get("next"))
    if visit.session is not None:
        return RedirectResponse(target, status_code=303)
    return visit.page("sign_in.html", target=target, words="", name="")


async def sign_in(visit: Visit) -> Response:
    """Check name and password, and go to where the person wanted to go."""
    name, target = visit.fields.get("name", "").strip().lower(), local_path(visit.fields.get("next"))
    person, words, status = await _authenticated(visit, name)
    if person is None:
        response = visit.page("sign_in.html", status=status, target=target, words=words, name=name[:64])
        if status == 429:
            response.headers["retry-after"] = "60"
        return response
    if visit.session is not None:
        await sessions.end(visit.desk.store.pool, visit.session, visit.now)
    token = await sessions.begin(visit.desk.store.pool, person.person_id, visit.now)
    response = RedirectResponse(target, status_code=303)
    response.set_cookie(
        visit.desk.cookie,
        token,
        max_age=int(visit.desk.lifetime.longest.total_seconds()),
        path="/",
        secure=visit.desk.settings.secure,
        httponly=True,
        samesite="lax",
    )
    return response


async def sign_out(visit: Visit) -> Response:
    """End the session."""
    await sessions.end(visit.desk.store.pool, visit.person, visit.now)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(visit.desk.cookie, path="/", secure=visit.desk.settings.secure, httponly=True)
    return response


async def events(visit: Visit) -> Response:
    """The stream that tells a page when to fetch itself anew."""
    desk, token = visit.desk, visit.request.cookies.get(visit.desk.cookie)
    if desk.feed.pages >= desk.settings.web_live_pages:
        desk.metrics.live_refused.inc()
        raise Refused(503, "Too many pages are open; this one does not update itself.")

    async def signed_in() -> bool:
        return await sessions.find(desk.store.pool, token, desk.lifetime, desk.clock()) is not None

    return EventSourceResponse(desk.feed.stream(signed_in), ping=60, send_timeout=10)


def titles(visit: Visit) -> dict[str, str]:
    """The rules' titles by id; a rule that is gone keeps its id."""
    return {rule.id: rule.title for rule in visit.desk.rules}


async def _authenticated(visit: Visit, name: str) -> tuple[people.Person | None, str, int]:
    """The person, or what to say and the status to say it with."""
    desk, address = visit.desk, visit.request.client.host if visit.request.client else "unknown"
    wait = desk.attempts.wait(name, address, visit.now)
    if wait is not None:
        desk.metrics.sign_ins.labels("too_many").inc()
        return None, f"Too many attempts. Try again in {duration(wait)}.", 429
    password = visit.fields.get("password", "")
    person = None
    if name and "\0" not in name and len(password) <= people.PASSWORD_CHARACTERS[1]:
        # Counted before it is checked: many at once are not each the first one.
        desk.attempts.failed(name, address, visit.now)
        async with desk.hashing:
            person = await people.authenticate(desk.store.pool, name, password)
    desk.metrics.sign_ins.labels("refused" if person is None else "done").inc()
    if person is None:
        return None, "Name or password is wrong.", 403
    desk.attempts.succeeded(name, address)
    return person, "", 200


async def _answer(visit: Visit, result: Result) -> Response:
    """After a form: back to the alert; what went wrong is shown on it, with what the person had written."""
    if result.alert is None:
        return _unknown(visit)
    if result.outcome in (Outcome.DONE, Outcome.BEFORE):
        return RedirectResponse(f"/alerts/{result.alert.number}", status_code=303)
    return await _alert_page(visit, result.alert, words=result.words, status=result.status)


async def _alert_page(visit: Visit, found: Alert, *, words: str = "", status: int = 200) -> Response:
    pool, since = visit.desk.store.pool, visit.now - PLOTTED
    known = await pumps.find(pool, found.pump_id) if found.pump_id else None
    related = await alerts.of_pump(pool, found.pump_id) if found.pump_id else []
    table = await pumps.readings(pool, found.pump_id, since, visit.now, TABLE_ROWS) if found.pump_id else []
    children = await alerts.children(pool, found.alert_id)
    apart = {found.alert_id, *(child.alert_id for child in children)}
    return visit.page(
        "alert.html",
        status=status,
        alert=found,
        words_said=words,
        story=await alerts.story(pool, found.alert_id),
        children=children,
        related=[other for other in related if other.alert_id not in apart],
        pump=known,
        care=await care.of_pump(visit, found.pump_id) if found.pump_id and known else None,
        back=f"/alerts/{found.number}",
        table=table,
        titles=titles(visit),
        given=visit.fields,
    )


async def _care_page(visit: Visit, *, words: str = "", status: int = 200) -> Response:
    pool, pump_id = visit.desk.store.pool, visit.request.path_params["pump_id"]
    found = await pumps.find(pool, pump_id) if PUMP_ID.fullmatch(pump_id) else None
    if found is None:
        return _unknown_pump(visit)
    return visit.page(
        "care.html",
        status=status,
        pump=found,
        care=await care.of_pump(visit, pump_id),
        words_said=words,
        back=local_path(visit.fields.get("back") or f"/pumps/{pump_id}/care"),
        titles=titles(visit),
        given=visit.fields,
    )


async def _care_record_page(visit: Visit, *, words: str = "", status: int = 200) -> Response:
    found = await care.find(visit)
    if found is None:
        return _unknown_care(visit)
    return visit.page(
        "care_record.html", status=status, item=found, words_said=words, titles=titles(visit), given=visit.fields
    )


def _unknown_pump(visit: Visit) -> Response:
    return visit.page("message.html", status=404, title="No such pump", words="No pump with this id has reported.")


def _unknown_care(visit: Visit) -> Response:
    words = "Nothing that people know of a pump has this id. It may be mistyped, or from another installation."
    return visit.page("message.html", status=404, title="No such record", words=words)


def _unknown(visit: Visit) -> Response:
    words = "No alert has this number. It may be mistyped, or from another installation."
    return visit.page("message.html", status=404, title="No such alert", words=words)
