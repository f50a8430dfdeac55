"""Warmth at the pump, at the edges of its limits, holds and windows (TMP-01). Temperatures in 0.01 °C."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.alert import Episode, Priority
from streams.domain.observing.heat import HeatLog, Spell
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.telemetry import Alarm
from streams.domain.world import Mri, PumpState
from streams.rehearsal import START
from tests.domain.judging import HOUR, MINUTE, SECOND, episode, judged, steps_of

MEDIUM, HIGH = Priority.MEDIUM, Priority.HIGH
NOW = timedelta(0)
OPEN = episode("TMP-01", (MEDIUM, -HOUR))


def _spell(low: int, high: int | None = None, *, first: timedelta = NOW, last: timedelta | None = None) -> Spell:
    return Spell(START + first, START + (first if last is None else last), low, low if high is None else high)


def _warm(*spells: Spell, usual: int = 3660, **fields: Any) -> PumpState:
    return PumpState(heat=HeatLog(usual=usual, spells=spells), **fields)


def _steps(state: PumpState, *tracks: Episode) -> list[tuple[Priority, timedelta]]:
    return steps_of(judged("TMP-01", state, START + 2 * HOUR, tracks=tracks))


@pytest.mark.parametrize(
    ("usual", "low", "last", "since"),
    [
        (3660, 3810, 10 * MINUTE, 10 * MINUTE),
        (3660, 3810, 10 * MINUTE - SECOND, None),
        (3660, 3809, 10 * MINUTE, None),
        (3660, 3810, HOUR, 10 * MINUTE),
        (0, 3810, HOUR, None),
        (0, 3900, 30 * MINUTE, 30 * MINUTE),
        (0, 3900, 30 * MINUTE - SECOND, None),
        (0, 3899, 30 * MINUTE, None),
        (3800, 3900, 30 * MINUTE, 30 * MINUTE),
    ],
)
def test_warmth_that_is_held_is_medium(usual: int, low: int, last: timedelta, since: timedelta | None) -> None:
    """TMP-01: 1.5 °C above what is usual for 10 min, or 39.0 °C for 30; limits and holds are inclusive."""
    state = _warm(_spell(low), _spell(low, first=last), usual=usual)

    assert _steps(state) == ([] if since is None else [(MEDIUM, since)])


def test_a_hold_begins_after_the_last_reading_below_its_limit() -> None:
    """TMP-01: every reading of a spell counts, and the newest must be warm as well."""
    cool, warm = _spell(3700, 3900), _spell(3820, first=5 * MINUTE)
    later, cooled = _spell(3820, first=15 * MINUTE), _spell(3790, first=16 * MINUTE)

    assert _steps(_warm(cool, warm, later)) == [(MEDIUM, 15 * MINUTE)]
    assert _steps(_warm(cool, warm, later, cooled)) == []


@pytest.mark.parametrize(("high", "hot"), [(4100, True), (4099, False)])
@pytest.mark.parametrize("usual", [0, 3660])
def test_41_degrees_once_are_high(high: int, hot: bool, usual: int) -> None:
    """TMP-01: inclusive, at the end of the readings that show it, whatever is usual."""
    state = _warm(_spell(3700, high, last=MINUTE), _spell(3700, first=4 * MINUTE), usual=usual)

    assert _steps(state) == ([(HIGH, MINUTE)] if hot else [])


@pytest.mark.parametrize(
    ("usual", "in_field", "hot"), [(3660, 3860, True), (3660, 3859, False), (3660, 0, False), (0, 3990, False)]
)
def test_two_degrees_above_the_usual_are_high_inside_interference(usual: int, in_field: int, hot: bool) -> None:
    """TMP-01: only what was read inside it, and only where the usual is known."""
    state = _warm(replace(_spell(3700, 3990), in_field=in_field), usual=usual)

    assert _steps(state) == ([(HIGH, NOW)] if hot else [])


DECLARED = Mri(start=START, declared_at=START, ended_at=START + HOUR)
"""Its window ends 15 minutes after its end."""


@pytest.mark.parametrize(
    ("mri", "first", "last", "inside"),
    [
        (None, NOW, NOW, False),
        (DECLARED, -MINUTE, NOW, True),
        (DECLARED, -MINUTE, -SECOND, False),
        (DECLARED, 75 * MINUTE, 76 * MINUTE, True),
        (DECLARED, 75 * MINUTE + SECOND, 76 * MINUTE, False),
        (Mri(start=START, declared_at=START), 2 * HOUR, 2 * HOUR, True),
        (Mri(start=START, declared_at=START), 2 * HOUR + SECOND, 2 * HOUR + SECOND, False),
        (Mri(start=START, last_seen_at=START + HOUR), 75 * MINUTE, 75 * MINUTE, True),
        (Mri(start=START, last_seen_at=START + HOUR), 75 * MINUTE + SECOND, 76 * MINUTE, False),
        (Mri(start=START), 15 * MINUTE, 15 * MINUTE, True),
        (Mri(start=START), 15 * MINUTE + SECOND, 16 * MINUTE, False),
    ],
)
def test_two_degrees_above_the_usual_are_high_inside_the_mri_window(
    mri: Mri | None, first: timedelta, last: timedelta, inside: bool
) -> None:
    """TMP-01: from its start to its hard end, or 15 min after the field was last seen; both ends inclusive."""
    state = _warm(_spell(3700, 3860, first=first, last=last), mri=mri)

    finding = judged("TMP-01", state, START + 3 * HOUR)

    assert steps_of(finding) == ([(HIGH, last)] if inside else [])


def test_the_pump_s_own_alarm_is_high_since_it_was_told_and_ends_nothing() -> None:
    """TMP-01: also beside readings that have cooled."""
    alarms: dict[str, Any] = {"alarms": (Alarm.OVER_TEMPERATURE,), "alarms_at": START + HOUR}
    cool = _warm(_spell(3700), _spell(3700, first=30 * MINUTE), **alarms)

    assert _steps(PumpState(**alarms)) == [(HIGH, HOUR)]
    assert _steps(cool, OPEN) == [(HIGH, HOUR)]


@pytest.mark.parametrize(
    ("usual", "high", "last", "ended"),
    [
        (3660, 3739, 30 * MINUTE, True),
        (3660, 3740, 30 * MINUTE, False),
        (3660, 3739, 30 * MINUTE - SECOND, False),
        (3800, 3829, 30 * MINUTE, True),  # never so high that 39.0 °C would open it at once: under 38.3 °C
        (3800, 3830, 30 * MINUTE, False),
        (0, 3829, 30 * MINUTE, True),
        (0, 3830, 30 * MINUTE, False),
    ],
)
def test_it_clears_after_half_an_hour_below_the_clearing_limit(
    usual: int, high: int, last: timedelta, ended: bool
) -> None:
    """TMP-01: less than 0.8 °C above the usual, exclusive; it ended when the half hour was over."""
    state = _warm(_spell(3650, high), _spell(3650, first=last), usual=usual)

    finding = judged("TMP-01", state, START + 2 * HOUR, tracks=[OPEN])

    expected = Finding(Presence.ABSENT, ended_at=START + 30 * MINUTE)
    assert finding == (expected if ended else NOT_EVALUABLE)


def test_the_half_hour_of_cooling_begins_after_the_last_warm_reading() -> None:
    """TMP-01: and while the newest reading is warm it has not begun."""
    warm, cool = _spell(3780), _spell(3700, first=10 * MINUTE)
    later, again = _spell(3700, first=40 * MINUTE), _spell(3780, first=41 * MINUTE)

    ended = judged("TMP-01", _warm(warm, cool, later), START + HOUR, tracks=[OPEN])

    assert ended == Finding(Presence.ABSENT, ended_at=START + 40 * MINUTE)
    assert judged("TMP-01", _warm(warm, cool, later, again), START + HOUR, tracks=[OPEN]) == NOT_EVALUABLE


def test_without_warm_readings_the_usual_says_that_it_is_cool() -> None:
    """TMP-01: no usual and no alert, nobody can say."""
    assert judged("TMP-01", PumpState(), START) == NOT_EVALUABLE
    assert judged("TMP-01", _warm(), START) == ABSENT
    assert judged("TMP-01", _warm(_spell(3720)), START) == ABSENT
    assert judged("TMP-01", _warm(_spell(3720), usual=0), START) == NOT_EVALUABLE


@pytest.mark.parametrize(
    ("track", "counts"),
    [
        (replace(OPEN, present=False, ended_at=START), False),
        (replace(OPEN, present=False, ended_at=START - SECOND), True),
        (replace(OPEN, present=False, closed=True, ended_at=START), False),
        (replace(OPEN, present=True, ended_at=START), True),
        (replace(OPEN, present=False), True),
    ],
)
def test_readings_of_an_episode_that_ended_open_no_other(track: Episode, counts: bool) -> None:
    """TMP-01: what is warm counts again from the first reading after its end."""
    assert _steps(_warm(_spell(3700, 4100), _spell(3700, first=MINUTE)), track) == ([(HIGH, NOW)] if counts else [])


def test_the_message_shows_the_newest_reading_beside_what_is_usual() -> None:
    """TMP-01: in degrees with one digit; what is not known is left out, and an alarm alone says that it is one."""
    spells = (_spell(4110), _spell(3700, 4120, first=MINUTE))
    told = replace(OPEN, present=False, ended_at=START + MINUTE)
    alarms: dict[str, Any] = {"alarms": (Alarm.OVER_TEMPERATURE,), "alarms_at": START}
    alarm = {"said": "The pump's alarm for too high a temperature"}

    assert judged("TMP-01", _warm(*spells), START + HOUR).values == {"said": "41.2 °C at the pump, usually 36.6 °C"}
    assert judged("TMP-01", _warm(*spells, usual=0), START + HOUR).values == {"said": "41.2 °C at the pump"}
    assert judged("TMP-01", _warm(**alarms), START + HOUR).values == alarm
    assert judged("TMP-01", _warm(*spells, **alarms), START + HOUR, tracks=[told]).values == alarm
