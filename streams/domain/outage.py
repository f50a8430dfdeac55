"""Why a silence ended that was one of many: an outage of what the site's pumps have in common was over (SYS-01).

A pump's own reports cannot tell that, so it is handed in as a fact: the ids of the silences that an outage explains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from streams.domain.alert import AlertEvent, AlertEventKind, Reason
from streams.domain.world import World

SILENCE_RULE: Final = "COM-01"


def silences_ended(events: Iterable[AlertEvent]) -> list[UUID]:
    """The silences that end by these events: pumps were heard again."""
    return [event.alert.alert_id for event in events if _ends_silence(event)]


def explained(
    world: World, events: tuple[AlertEvent, ...], by_outage: Collection[UUID]
) -> tuple[World, tuple[AlertEvent, ...]]:
    """Give the silences in ``by_outage`` that end by these events the cause `Reason.SERVICE_OUTAGE`.

    Nothing else changes, and the world that published the events agrees with them.
    """
    told = tuple(
        _told(event) if event.alert.alert_id in by_outage and _ends_silence(event) else event for event in events
    )
    ended = {event.alert.alert_id for event in told if event.reason == Reason.SERVICE_OUTAGE}
    ledger = tuple(
        replace(record, reason=Reason.SERVICE_OUTAGE) if record.alert_id in ended and not record.active else record
        for record in world.ledger
    )
    return replace(world, ledger=ledger), told


def _ends_silence(event: AlertEvent) -> bool:
    return event.kind is AlertEventKind.CLEARED and event.alert.rule_id == SILENCE_RULE


def _told(event: AlertEvent) -> AlertEvent:
    return replace(event, reason=Reason.SERVICE_OUTAGE, alert=replace(event.alert, reason=Reason.SERVICE_OUTAGE))
