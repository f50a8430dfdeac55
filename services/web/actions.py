"""What a person can do with an alert: take it, and close it. Twice is as good as once; a conflict is said plainly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from services.web import alerts
from services.web.access import Visit
from services.web.alerts import Alert
from services.web.words import RESOLUTIONS, TEXT_CHARACTERS


class Outcome(StrEnum):
    """What became of an action."""

    DONE = "done"
    BEFORE = "done_before"
    CONFLICT = "conflict"
    REFUSED = "refused"
    UNUSABLE = "unusable"
    UNKNOWN = "unknown_alert"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome, the alert as it then stands, and what to tell the person."""

    outcome: Outcome
    alert: Alert | None
    words: str = ""

    @property
    def status(self) -> int:
        """The HTTP status that says so."""
        codes = {Outcome.CONFLICT: 409, Outcome.REFUSED: 409, Outcome.UNUSABLE: 422, Outcome.UNKNOWN: 404}
        return codes.get(self.outcome, 200)


def reference(text: str) -> int | UUID | None:
    """An alert's number or id as it stands in an address."""
    if text.isascii() and text.isdigit():
        return int(text) if len(text) <= 18 else None
    try:
        return UUID(text)
    except ValueError:
        return None


async def find(visit: Visit) -> Alert | None:
    """The alert that the request's address names."""
    named = reference(visit.request.path_params["reference"])
    return None if named is None else await alerts.find(visit.desk.store.pool, named)


async def confirm(visit: Visit) -> Result:
    """The person has the alert: its ladder stops, and everybody sees the name.

    ``raised_at`` is when the alert had last been raised on the page that the person saw: one that got worse since then
    is shown again instead of being taken unseen.
    """
    result = await _confirm(visit)
    visit.desk.metrics.actions.labels("confirm", result.outcome).inc()
    return result


async def _confirm(visit: Visit) -> Result:
    alert = await find(visit)
    if alert is None:
        return Result(Outcome.UNKNOWN, None, "There is no such alert.")
    if conflict := _confirm_conflict(alert, visit):
        return conflict
    shown = visit.fields.get("raised_at")
    raised_at = alert.raised_at if shown is not None else None
    refused = await visit.desk.store.confirm(alert.alert_id, visit.person.person_id, visit.now, raised_at)
    after = await alerts.find(visit.desk.store.pool, alert.alert_id) or alert
    # Somebody may have been quicker, or the alert been raised again, between the look and the write.
    if conflict := _confirm_conflict(after, visit, before=Outcome.DONE):
        return conflict
    if refused is not None:
        return Result(Outcome.REFUSED, after, f"It was not confirmed: {refused.reason}.")
    return Result(Outcome.DONE, after)


def _confirm_conflict(alert: Alert, visit: Visit, before: Outcome = Outcome.BEFORE) -> Result | None:
    if not alert.open:
        return Result(Outcome.CONFLICT, alert, "This alert is closed already; there is nothing to confirm.")
    if alert.confirmed:
        if alert.confirmed_by == visit.person.person_id:
            return Result(before, alert)
        name = alert.confirmed_name or alert.confirmed_by
        return Result(Outcome.CONFLICT, alert, f"Already confirmed by {name} at {_clock(alert.confirmed_at)}.")
    shown = visit.fields.get("raised_at")
    if shown is not None and _moment(shown) != alert.raised_at:
        words = "This alert was raised again since you opened it. Read it as it stands now, then confirm."
        return Result(Outcome.CONFLICT, alert, words)
    return None


async def resolve(visit: Visit) -> Result:
    """The person closes the alert and says why."""
    result = await _resolve(visit)
    visit.desk.metrics.actions.labels("resolve", result.outcome).inc()
    return result


async def _resolve(visit: Visit) -> Result:
    alert = await find(visit)
    if alert is None:
        return Result(Outcome.UNKNOWN, None, "There is no such alert.")
    if not alert.open:
        return Result(Outcome.BEFORE, alert, "This alert is closed already.")
    code, text = visit.fields.get("reason", ""), " ".join(visit.fields.get("text", "").split())
    if words := _unusable(code, text):
        return Result(Outcome.UNUSABLE, alert, words)
    reason = f"{code}: {text}" if text else code
    store = visit.desk.store
    refused = await store.resolve(alert.alert_id, visit.person.person_id, reason, visit.now, visit.desk.rules)
    after = await alerts.find(store.pool, alert.alert_id) or alert
    if refused is not None:
        return Result(Outcome.REFUSED, after, f"It was not resolved: {refused.reason}.")
    return Result(Outcome.DONE, after)


def _unusable(code: str, text: str) -> str | None:
    if code not in RESOLUTIONS:
        return "Choose a reason from the list."
    if len(text) > TEXT_CHARACTERS:
        return f"The text is longer than {TEXT_CHARACTERS} characters."
    if code == "other" and not text:
        return "Write what the reason is."
    if not text.isprintable():
        return "The text has characters that cannot be shown."
    return None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _clock(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%H:%M:%S UTC on %-d %b") if moment else "an unknown time"
