"""Writes what was decided: the climb, who is to be told, and which notifications are over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from services.notify.cases import TOLD, Connection, Look
from streams.domain.escalation import Cause, Channel, Decision, Due, Silence

CORRECTION: Final = "correction"
"""Why somebody is told that an alert was taken back: they had been told of it (catalogue M.19)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision about an alert, and when the report behind it was accepted, if a fresh one is."""

    look: Look
    decision: Decision
    accepted_at: datetime | None

    @property
    def takes_over(self) -> UUID | None:
        """The alert whose notification thread goes on with this one, from this decision on."""
        return self.look.takes_over if self.decision.takes_over else None


# One statement: each one more is a wait between an alert and its page.
_STORE: Final = """
    WITH handled AS (
        UPDATE outbox SET handled_at = now() WHERE outbox_id = ANY($1)
    ), climbed AS (
        INSERT INTO ladder (alert_id, ladder, started_at, next_step, next_step_at, ended_at, ended_reason,
                            raised_at, took_over_at, thread_id)
        SELECT * FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::smallint[], $6::timestamptz[],
                             $7::timestamptz[], $8::text[], $9::timestamptz[], $10::timestamptz[], $11::uuid[])
        ON CONFLICT (alert_id) DO UPDATE SET  -- a thread is taken over once, and with the alert's first climb
            ladder = excluded.ladder, started_at = excluded.started_at, next_step = excluded.next_step,
            next_step_at = excluded.next_step_at, ended_at = excluded.ended_at, ended_reason = excluded.ended_reason,
            raised_at = excluded.raised_at
    )
    INSERT INTO notification (notification_id, alert_id, step, channel, person, reason, accepted_at, queued_at,
                              state, next_try_at, sent_at)
    SELECT id, alert_id, step, channel, person, reason, accepted_at, queued_at,
           CASE channel WHEN 'worklist' THEN 'sent' ELSE 'queued' END,
           CASE channel WHEN 'worklist' THEN NULL ELSE now() END,
           CASE channel WHEN 'worklist' THEN now() END
    FROM unnest($12::uuid[], $13::uuid[], $14::smallint[], $15::text[], $16::text[], $17::text[], $18::timestamptz[],
                $19::timestamptz[])
         AS queued (id, alert_id, step, channel, person, reason, accepted_at, queued_at)
"""

_SUPERSEDE: Final = """
    UPDATE notification SET state = 'superseded', next_try_at = NULL
    WHERE alert_id = ANY($1) AND state = 'queued' AND reason <> 'correction' AND reason <> ALL($2)
"""

_CONFIRMED: Final = """
    UPDATE notification n SET state = 'confirmed', confirmed_at = a.confirmed_at
    FROM alert a
    WHERE a.alert_id = n.alert_id AND n.alert_id = ANY($1) AND n.person = a.confirmed_by
          AND n.state IN ('sent', 'delivered', 'seen') AND n.queued_at <= a.confirmed_at
"""

# Once for each time that somebody was told: an alert may be taken back, stand again, and be taken back again. Who was
# told before another alert took the thread over hears of both from that one; who was to hear so has been told.
_CORRECT: Final = f"""
    INSERT INTO notification (notification_id, alert_id, step, channel, person, reason, state, next_try_at)
    SELECT gen_random_uuid(), alert_id, max(step), channel, person, 'correction', 'queued', now()
    FROM notification
    WHERE alert_id = ANY($1) AND channel <> 'worklist'
    GROUP BY alert_id, channel, person
    HAVING max(queued_at) FILTER (WHERE reason = 'taken_over' OR (
               reason <> 'correction' AND {TOLD}))
           > greatest(max(queued_at) FILTER (WHERE reason = 'correction'),
                      (SELECT max(took_over_at) FROM ladder WHERE thread_id = notification.alert_id), '-infinity')
"""  # noqa: S608 - a constant


async def write(connection: Connection, verdicts: Sequence[Verdict], handled: Sequence[int] = ()) -> None:
    """Store decisions, and that these outbox rows are handled, inside the caller's transaction."""
    await _end(connection, verdicts)
    climbs = [verdict for verdict in verdicts if verdict.decision.climb != verdict.look.climb]
    pages = [(verdict, due) for verdict in verdicts for due in verdict.decision.due]
    if climbs or pages or handled:
        await connection.execute(_STORE, list(handled), *_climb_arrays(climbs), *_page_arrays(pages))


def _climb_arrays(verdicts: Sequence[Verdict]) -> list[Sequence[object]]:
    rows = [verdict.decision.climb for verdict in verdicts]
    taken = [verdict.takes_over for verdict in verdicts]
    return [
        [verdict.look.alert_id for verdict in verdicts],
        [climb.ladder.value for climb in rows],
        [climb.started_at for climb in rows],
        [climb.next_step for climb in rows],
        [climb.next_step_at for climb in rows],
        [climb.ended_at for climb in rows],
        [climb.ended_reason.value if climb.ended_reason else None for climb in rows],
        [climb.raised_at for climb in rows],
        [climb.took_over_at if taken_id else None for climb, taken_id in zip(rows, taken, strict=True)],
        taken,
    ]


def _page_arrays(pages: Sequence[tuple[Verdict, Due]]) -> list[Sequence[object]]:
    return [
        [uuid4() for _ in pages],
        [verdict.look.alert_id for verdict, _ in pages],
        [due.step for _, due in pages],
        [due.channel.value for _, due in pages],
        [due.person for _, due in pages],
        [due.cause.value for _, due in pages],
        [verdict.accepted_at if due is _first_page(verdict) else None for verdict, due in pages],
        [max(verdict.look.now, verdict.look.case.raised_at) for verdict, _ in pages],
    ]


def _first_page(verdict: Verdict) -> Due | None:
    """The one whose first attempt answers the report: latency counts once per alert."""
    return next((due for due in verdict.decision.due if due.channel is not Channel.WORKLIST), None)


async def _end(connection: Connection, verdicts: Sequence[Verdict]) -> None:
    """What is over need not be sent any more; whoever was told of an alert that is taken back hears of that."""
    by_silence: dict[Silence, list[UUID]] = {}
    for verdict in verdicts:
        silence = verdict.decision.silence
        if silence and silence is not Silence.STEPS_DONE:
            by_silence.setdefault(silence, []).append(verdict.look.alert_id)
    for silence, alert_ids in by_silence.items():
        await connection.execute(_SUPERSEDE, alert_ids, _outliving(silence))
    if confirmed := [v.look.alert_id for v in verdicts if v.look.case.confirmed_at is not None]:
        await connection.execute(_CONFIRMED, confirmed)
    taken = {verdict.takes_over for verdict in verdicts}
    if retracted := [alert_id for alert_id in by_silence.get(Silence.RETRACTED, ()) if alert_id not in taken]:
        await connection.execute(_CORRECT, retracted)


def _outliving(silence: Silence) -> list[str]:
    """What is still sent: a deadline that no confirmation moves, and who goes on with an alert that was taken back."""
    if silence is Silence.RETRACTED:
        return []
    if silence in (Silence.CLOSED, Silence.CLEARED):
        return [Cause.TAKEN_OVER.value]
    return [Cause.PHYSICIAN_BY.value, Cause.TAKEN_OVER.value]
