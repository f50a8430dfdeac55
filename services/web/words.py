"""Plain words for what the database keeps as codes. An unknown code is shown as it is: never hidden, never guessed."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

SYMBOLS: Final = {"high": "▲▲▲", "medium": "▲▲", "low": "▲", "info": "•"}
"""Never colour alone; the number of signs grows with the priority."""

KINDS: Final = {
    "opened": "Opened",
    "escalated": "Became more urgent",
    "recurred": "Came back",
    "re_raised": "Raised again",
    "acknowledged": "Confirmed",
    "cleared": "Condition ended",
    "resolved": "Resolved",
    "amended": "Amended",
    "retracted": "Taken back",
}

REASONS: Final = {
    "condition_met": "the condition was met",
    "condition_ended": "the condition ended",
    "service_outage": "the pump was heard again: the whole site had been silent, not this pump alone",
    "resolved_by_person": "a person resolved it",
    "confirmed_by_person": "a person has taken it",
    "mri_declared": "an MRI was declared",
    "late_log": "the pump's log arrived late and shows it had ended",
    "late_evidence": "evidence that arrived late shows it differently",
    "clock_corrected": "the pump's clock was wrong, and its times were corrected",
    "worsened": "it got worse",
    "recurred": "it came back",
    "reminder_due": "it is time for a reminder",
    "parent_changed": "another alert now stands for it, or no longer does",
    "hold_ended": "it was confirmed long ago and still holds",
    "step_due": "the next step was due",
    "step_failed": "the step before reached nobody",
    "unconfirmed": "nobody has confirmed yet",
    "raised_again": "it was raised again before anybody had confirmed it",
    "taken_over": "an alert that they had been told of was taken back, and this one goes on with it",
    "physician_by": "the patient's time without drug is running out",
    "retracted": "the alert was taken back",
    "closed": "the alert is closed",
    "cleared": "the condition has ended",
    "info_only": "for information only",
    "no_ladder": "this alert calls nobody",
    "confirmed": "somebody has it",
    "child_of": "another alert stands for it",
    "steps_done": "everybody on the ladder was told",
    "grouped_in_storm": "told as one incident of the whole site",
}

STATES: Final = {
    "queued": "waiting to be sent",
    "sending": "being sent",
    "sent": "sent",
    "delivered": "delivered",
    "seen": "seen",
    "confirmed": "confirmed",
    "failed": "failed",
    "superseded": "no longer needed",
}

CHANNELS: Final = {"email": "e-mail", "webhook": "webhook", "worklist": "the worklist"}

STEPS: Final = {
    "H": ("primary on call", "primary again, every channel", "backup", "physician on call", "site lead and everyone"),
    "M": (
        "primary on call",
        "primary again, every channel",
        "backup",
        "primary on call",
        "primary again, every channel",
        "backup",
        "physician on call",
        "site lead and everyone",
    ),
    "L": ("the worklist", "primary on call", "site lead"),
}
"""Who is told at each step (rules_catalogue.md A.5); a test holds it against the ladder itself."""

AFTER_LAST: Final = {"L": "primary on call and site lead again"}
"""Who is told after the last step, where it is not that one again."""

RESOLUTIONS: Final = {
    "refilled": "Reservoir refilled",
    "delivery_restored": "Delivery checked and restored",
    "pump_replaced": "Pump replaced or taken out",
    "patient_reviewed": "Patient reviewed, nothing more to do",
    "planned": "Planned: MRI, procedure or signed plan",
    "technical": "Technical fault: gateway, phone or network",
    "nuisance": "Not actionable",
    "other": "Other, as written below",
}
"""Why a person closes an alert; the code comes first in the reason that history keeps."""

TEXT_CHARACTERS: Final = 500

CARE: Final = {
    "stop_plan": "Planned stop",
    "refill_booked": "Refill booked",
    "replacement_booked": "Replacement booked",
    "replaced": "Pump replaced or taken out",
    "absence": "Patient away",
    "review": "Review done",
    "session": "Programming session",
    "setting": "Own setting of a rule",
}
"""What kind of thing people know of a pump."""

CARE_FIELDS: Final = {
    "/valid_from": "Counts from",
    "/valid_until": "Until",
    "/booked_on": "Day",
    "/reason": "Why",
    "/rule_id": "Rule",
    "/parameter": "Rule",
    "/value": "Value",
    "/session_id": "Session number",
    "/kind": "What",
}
"""The fields of its forms."""


def duration(span: timedelta) -> str:
    """A length of time as people say it: 45 s, 12 min, 3 h 5 min, 4 d 2 h. Negative counts as 0 s."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def kind(code: str) -> str:
    """What happened to an alert."""
    return KINDS.get(code, code)


def reason(code: str) -> str:
    """Why it happened; a person's own reason keeps their text."""
    if code in REASONS:
        return REASONS[code]
    first, separator, text = code.partition(": ")
    return f"{RESOLUTIONS[first]}{separator}{text}" if first in RESOLUTIONS else code


def care_field(pointer: str) -> str:
    """The form's field behind a path in the record."""
    return CARE_FIELDS.get(pointer, pointer.strip("/") or "Record")


def next_told(ladder: str, step: int) -> str:
    """Whom a ladder's step tells; past the last one it repeats, or everyone hears of it after one that failed."""
    steps = STEPS.get(ladder, ())
    if not steps:
        return "nobody"
    return steps[step] if 0 <= step < len(steps) else AFTER_LAST.get(ladder, f"{steps[-1]} again")
