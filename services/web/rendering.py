"""Pages from templates. Everything is escaped; times are UTC and carry what the browser needs to add the local time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.web import words
from services.web.health import Trouble
from services.web.sessions import Session

TEMPLATES: Final = Path(__file__).parent / "templates"


class Pages:
    """Renders the templates."""

    def __init__(self, folder: Path = TEMPLATES) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            undefined=jinja2.StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(words=words)
        self._templates.filters.update(stamp=stamp, day=day, number=number, readable=readable)

    def response(
        self,
        request: Request,
        template: str,
        session: Session | None,
        now: datetime,
        status: int,
        values: dict[str, Any],
    ) -> Response:
        """A page; ``request.state.troubles`` fills the banner where the handler has looked."""
        troubles: list[Trouble] = getattr(request.state, "troubles", [])
        context = {"session": session, "now": now, "troubles": troubles, "path": request.url.path, **values}
        return HTMLResponse(self._templates.get_template(template).render(context), status_code=status)


@jinja2.pass_context
def stamp(context: jinja2.runtime.Context, moment: datetime | None, otherwise: str = "—") -> str:
    """A moment to the second in UTC, with its date unless that is today's."""
    if moment is None:
        return otherwise
    utc, today = moment.astimezone(UTC), context["now"].astimezone(UTC)
    if utc.date() == today.date():
        shown = utc.strftime("%H:%M:%S UTC")
    elif utc.year == today.year:
        shown = utc.strftime("%-d %b, %H:%M:%S UTC")
    else:
        shown = utc.strftime("%-d %b %Y, %H:%M:%S UTC")
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(timespec="seconds"), shown)


def day(value: object, otherwise: str = "—") -> str:
    """A date without a time."""
    return value.strftime("%-d %b %Y") if isinstance(value, date) else otherwise


def number(value: float | None, unit: str = "", digits: int = 2) -> str:
    """A measurement with its unit; a dash where there is none, never a zero."""
    return "—" if value is None else f"{value:.{digits}f} {unit}".strip()


def readable(code: str | None) -> str:
    """A code of the telemetry in plain words; a dash where there is none."""
    return "—" if code is None else code.replace("_", " ")
