"""The synthetic pump and the person who looks after it: one round sounds an alarm, awaits its page, and ends both."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from services.watchdog.receiver import Pages
from services.watchdog.settings import Settings

ALARM: Final = "critical_memory_error"
"""A critical alarm without memory: a stall each round would add up to a burden of stalls (rule DLV-02)."""
REQUEST_SECONDS: Final = 5.0
RESOLUTION: Final = "other"
_CSRF: Final = re.compile(r'<meta name="csrf-token" content="([^"]+)"')


class CanaryFailed(Exception):
    """A round did not come through; says where it stopped."""

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(f"{where}: {detail}")
        self.where, self.detail = where, detail


class Unanswered(CanaryFailed):
    """A station did not answer, or said that it cannot now: a moment later it may."""


class StillHolds(CanaryFailed):
    """The alert cannot be closed while its condition holds, as far as the page knows."""


class Canary:
    """Runs rounds, one after the other.

    Args:
        settings: Where the path begins and ends.
        pages: What arrives at the webhook.
        client: The network; it keeps the cookies of the sign-in.
    """

    def __init__(self, settings: Settings, pages: Pages, client: httpx.AsyncClient) -> None:
        self._settings, self._pages, self._client = settings, pages, client
        self._boot_id = int(time.time())
        self._seq = 0
        self._csrf: str | None = None

    async def round(self, limit_seconds: float) -> float:
        """One round; returns the seconds from the alarm to its page.

        Raises:
            CanaryFailed: If a station refuses or does not answer, or no page came within ``limit_seconds``.
        """
        await self._close_what_is_left()
        started = time.monotonic()
        arrived = self._pages.count
        await self._report(motor="running", alarms=[ALARM])
        try:
            async with asyncio.timeout(limit_seconds):
                page = await self._pages.after(arrived)
        except TimeoutError:
            raise CanaryFailed("page", f"none within {limit_seconds:g} s") from None
        finally:
            # Also without a page: what opened in the meantime must not stay open.
            await self._report(motor="running", alarms=[])
        took = time.monotonic() - started
        await self._resolve(page["alert_id"])
        return took

    async def _report(self, **said: Any) -> None:
        now = datetime.now(UTC).isoformat()
        report = {
            "schema_version": 1,
            "pump_id": self._settings.watchdog_pump_id,
            "boot_id": self._boot_id,
            "seq": self._seq,
            "event_time": now,
            "gateway_id": self._settings.watchdog_gateway_id,
            "gateway_time": now,
            **said,
        }
        self._seq += 1
        token = self._settings.watchdog_gateway_token.get_secret_value()
        answer = await self._ask(
            "ingest",
            "POST",
            f"{self._settings.watchdog_ingest_url}/v1/reports",
            json=report,
            headers={"Authorization": f"Bearer {token}"},
        )
        if answer.status_code != 202 or answer.json()["rejected"]:
            raise CanaryFailed("ingest", f"answered {answer.status_code}")

    async def _close_what_is_left(self) -> None:
        """Close what an earlier round could not, or what paged between two: no open alert sounds anew."""
        for alert_id in self._pages.left:
            # Some end by themselves only, like an alert of the system about this site; those are in nobody's way.
            with contextlib.suppress(StillHolds):
                await self._close(alert_id)

    async def _resolve(self, alert_id: str) -> None:
        """Close the alert; the worker must have applied that the alarm ended, and a short break is waited for."""
        deadline = time.monotonic() + REQUEST_SECONDS
        while True:
            try:
                return await self._close(alert_id)
            except (StillHolds, Unanswered):
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)

    async def _close(self, alert_id: str) -> None:
        """Close the alert on the care-team page, as a person would."""
        answer = await self._act(f"/api/alerts/{alert_id}/resolve", {"reason": RESOLUTION, "text": "synthetic alarm"})
        status, detail = answer.status_code, f"answered {answer.status_code} to closing the alert"
        if status == 409:
            raise StillHolds("web", detail)
        if status >= 500:
            raise Unanswered("web", detail)
        if status not in (401, 403):
            self._pages.closed(alert_id)
        if status != 200:
            raise CanaryFailed("web", detail)

    async def _act(self, path: str, fields: dict[str, str]) -> httpx.Response:
        for _ in range(2):
            if self._csrf is None:
                await self._sign_in()
            url = self._settings.watchdog_web_url
            headers = {"X-CSRF-Token": self._csrf or "", "Origin": url}
            answer = await self._ask("web", "POST", f"{url}{path}", json=fields, headers=headers)
            if answer.status_code not in (401, 403):
                break
            self._csrf = None
        return answer

    async def _sign_in(self) -> None:
        url = self._settings.watchdog_web_url
        form = {
            "name": self._settings.watchdog_person,
            "password": self._settings.watchdog_password.get_secret_value(),
        }
        await self._ask("web", "POST", f"{url}/sign-in", data=form, headers={"Origin": url})
        page = await self._ask("web", "GET", f"{url}/?auto=1")
        found = _CSRF.search(page.text)
        if found is None:
            raise CanaryFailed("web", "did not let the watchdog sign in")
        self._csrf = found.group(1)

    async def _ask(self, station: str, method: str, url: str, **more: Any) -> httpx.Response:
        try:
            return await self._client.request(method, url, timeout=REQUEST_SECONDS, **more)
        except httpx.HTTPError as error:
            raise Unanswered(station, type(error).__name__) from error
