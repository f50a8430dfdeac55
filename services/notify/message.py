"""The words of a message. They carry alert number, priority, site, time and link, and nothing about the patient."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import jinja2

from services.notify.channels import Notice

SITE_LENGTH: Final = 64
REPEAT: Final = " (possible repeat)"


class Messages:
    """Renders notices; ``public_url`` is the address of the care-team page."""

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url.rstrip("/")
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            undefined=jinja2.StrictUndefined,
            autoescape=jinja2.select_autoescape(()),
            keep_trailing_newline=True,
        )

    def link(self, notice: Notice) -> str:
        """Where the alert is read and confirmed, behind the sign-in."""
        return f"{self._public_url}/alerts/{notice.alert_id}"

    def subject(self, notice: Notice) -> str:
        """One line, safe on a lock screen."""
        marked = REPEAT if notice.repeat else ""
        taken_back = "Taken back: " if notice.correction else ""
        if notice.taken_over:
            taken_back = f"Taken back: alert {notice.continues}, goes on as "
        at = f" at {site}" if (site := one_line(notice.site)) else ""
        return f"[Pumpwatch] {taken_back}{notice.priority.upper()} alert {notice.number}{at}{marked}"

    def body(self, notice: Notice) -> str:
        """Plain text."""
        return self._templates.get_template("message.txt").render(
            notice=notice,
            site=one_line(notice.site) or "not known",
            priority=notice.priority.upper(),
            raised_at=notice.raised_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            link=self.link(notice),
        )

    def document(self, notice: Notice, now: datetime) -> dict[str, object]:
        """The payload of a webhook, in the form that Standard Webhooks recommends."""
        kind = "correction" if notice.correction else "takeover" if notice.taken_over else "notification"
        return {
            "type": f"pumpwatch.alert.{kind}",
            "timestamp": now.astimezone(UTC).isoformat(),
            "data": {
                "notification_id": str(notice.notification_id),
                "alert_id": str(notice.alert_id),
                "number": notice.number,
                "thread_id": str(notice.thread_id),
                "continues_number": notice.continues,
                "priority": notice.priority,
                "site": one_line(notice.site),
                "raised_at": notice.raised_at.astimezone(UTC).isoformat(),
                "step": notice.step,
                "possible_repeat": notice.repeat,
                "link": self.link(notice),
            },
        }


def one_line(text: str) -> str:
    """Printable characters on one line, at most 64: what a person typed as a site cannot start a header."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:SITE_LENGTH]
