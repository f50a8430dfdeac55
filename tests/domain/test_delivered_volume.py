"""Delivered against programmed volume at its limits: what DLV-06, DLV-07 and DLV-08 say of single states."""

from __future__ import annotations

from typing import Any

import pytest

from streams.domain.alert import Episode, Priority
from streams.domain.observing.drift import Drift, RefillDrift, Sums
from streams.domain.observing.flow import FlowLog, Volume
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.world import PumpState
from streams.rehearsal import moment
from tests.domain.views import MORPHINE, ZICONOTIDE, judged, step, track

Told = tuple[str, float, float]
"""Offset, programmed and delivered since the boot, in mL."""


def _volumes(*told: Told) -> tuple[Volume, ...]:
    return tuple(Volume(moment(at), programmed, delivered) for at, programmed, delivered in told)


def _fast(*told: Told, **known: Any) -> Finding:
    return judged("DLV-06", told[-1][0], PumpState(flow=FlowLog(volumes=_volumes(*told))), **known)


def _high_at(at: str, delivered: str, programmed: str, hours: str) -> Finding:
    values = {"delivered": delivered, "programmed": programmed, "hours": hours}
    return Finding(Presence.PRESENT, (step(Priority.HIGH, at),), values=values)


def test_a_pump_that_senses_no_volume_is_not_judged_by_it() -> None:
    """All three rules need a sensor of what is delivered."""
    for rule_id in ("DLV-06", "DLV-07", "DLV-08"):
        assert judged(rule_id, "PT1H", PumpState()) == NOT_EVALUABLE


def test_over_delivery_counts_in_the_newest_whole_window() -> None:
    """Whatever was told before the window says nothing: at first this pump gave less than programmed."""
    found = _fast(("PT0M", 5.0, 5.0), ("PT30M", 5.05, 5.0), ("PT1H", 5.1, 5.1), ("PT90M", 5.15, 5.17))

    assert found == _high_at("PT90M", "0.170", "0.100", "1.0")


def test_a_window_of_exactly_an_hour_is_whole_and_a_second_less_is_not() -> None:
    """DLV-06: the shortest window is inclusive."""
    whole = _fast(("PT0M", 0.0, 0.0), ("PT1H", 0.1, 0.17))
    short = _fast(("PT1S", 0.0, 0.0), ("PT1H", 0.1, 0.17))

    assert whole == _high_at("PT1H", "0.170", "0.100", "1.0")
    assert short == NOT_EVALUABLE


def test_a_slow_program_is_compared_over_a_day_at_the_most() -> None:
    """DLV-06: 0.05 mL would take longer."""
    found = _fast(("PT0M", 0.0, 0.0), ("PT12H", 0.01, 0.03), ("P1D", 0.02, 0.06))

    assert found == _high_at("P1D", "0.060", "0.020", "24.0")
    assert _fast(("PT1S", 0.0, 0.0), ("P1D", 0.02, 0.06)) == NOT_EVALUABLE


@pytest.mark.parametrize(
    ("programmed", "delivered", "present"),
    [
        (0.0, 0.02, True),
        (0.0, 0.02 - 1e-6, True),
        (0.02, 0.04 - 5e-7, True),
        (0.02, 0.0399, False),
        (0.1, 0.15, False),
        (0.1, 1.5 * 0.1 + 1e-6, False),
        (0.1, 0.1501, True),
    ],
)
def test_over_delivery_needs_its_excess_and_more_than_its_ratio(
    programmed: float, delivered: float, present: bool
) -> None:
    """The excess counts from exactly 0.02 mL, the ratio from more than 1.5; a microlitre's thousandth is rounding."""
    found = _fast(("PT0M", 0.0, 0.0), ("P1D", programmed, delivered))

    assert (found.presence is Presence.PRESENT) is present
    if not present:
        assert found == Finding(Presence.ABSENT, ended_at=moment("P1D"))


def test_a_large_excess_needs_no_whole_window() -> None:
    """0.3 mL above the program since any volume of the last hour, the hour's first moment included."""
    at_once = _fast(("PT0M", 2.0, 2.2), ("PT20M", 2.01, 2.21), ("PT30M", 2.02, 2.52))
    in_an_hour = _fast(("PT0M", 1.0, 1.0), ("PT1H", 2.0, 2.3))

    assert at_once == _high_at("PT30M", "0.320", "0.020", "0.5")
    assert in_an_hour == _high_at("PT1H", "1.300", "1.000", "1.0")


def test_a_large_excess_is_at_once_only_within_an_hour_and_from_its_limit_on() -> None:
    """DLV-06: a second more than the hour, and a microlitre less than the limit."""
    older = _fast(("PT0M", 1.0, 1.0), ("PT1H1S", 2.0, 2.3))
    less = _fast(("PT0M", 1.0, 1.0), ("PT30M", 1.01, 1.309))

    assert older == Finding(Presence.ABSENT, ended_at=moment("PT1H1S"))
    assert less == NOT_EVALUABLE


@pytest.mark.parametrize(("delivered", "present"), [(0.5, True), (0.5 - 1e-6, True), (0.4999, False)])
def test_the_boluses_that_the_profile_allows_are_no_excess(delivered: float, present: bool) -> None:
    """DLV-06: a day's boluses may all come at once."""
    found = _fast(("PT0M", 0.0, 0.0), ("PT30M", 0.0, delivered), profile={"max_bolus_ml_per_day": 0.2})

    assert (found.presence is Presence.PRESENT) is present


RUNNING: tuple[Told, ...] = (("PT0H", 3.0, 3.0), ("PT1H", 3.1, 3.03), ("PT2H", 3.2, 3.07))


def _slow(
    told: tuple[Told, ...],
    *tracks: Episode,
    running_since: str | None = "PT0H",
    owing: Told | None = None,
    **known: Any,
) -> Finding:
    log = FlowLog(
        volumes=_volumes(*told),
        running_since=moment(running_since) if running_since is not None else None,
        owing=_volumes(owing)[0] if owing is not None else None,
    )
    return judged("DLV-07", told[-1][0], PumpState(flow=log), *tracks, **known)


def _hourly(*delivered: float) -> tuple[Told, ...]:
    """An hour's volumes each, one millilitre programmed."""
    sums = [sum(delivered[:count]) for count in range(len(delivered) + 1)]
    return tuple((f"PT{hour}H", float(hour), total) for hour, total in enumerate(sums))


@pytest.mark.parametrize(("profile", "priority"), [({}, Priority.HIGH), (MORPHINE, Priority.MEDIUM)])
def test_two_windows_below_half_of_the_program_are_told_at_the_second_one(
    profile: dict[str, Any], priority: Priority
) -> None:
    """DLV-07: what is told is both windows together."""
    values = {"delivered": "0.070", "programmed": "0.200", "hours": "2.0"}

    found = _slow(RUNNING, profile=profile)

    assert found == Finding(Presence.PRESENT, (step(priority, "PT2H"),), values=values)


def test_the_two_windows_are_the_newest_ones() -> None:
    """DLV-07: what was before them was enough, and counts no more."""
    found = _slow((("PT0H", 2.0, 2.0), ("PT1H", 2.1, 2.1), *(_later(told) for told in RUNNING)))

    assert found.steps == (step(Priority.HIGH, "PT4H"),)
    assert found.values == {"delivered": "0.070", "programmed": "0.200", "hours": "2.0"}


def _later(told: Told) -> Told:
    hours = {"PT0H": "PT2H", "PT1H": "PT3H", "PT2H": "PT4H"}
    return (hours[told[0]], told[1], told[2])


@pytest.mark.parametrize("told", [RUNNING[:1], RUNNING[:2], RUNNING[1:], (("PT1S", 3.0, 3.0), *RUNNING[1:])])
def test_one_whole_window_is_not_enough(told: tuple[Told, ...]) -> None:
    """DLV-07: a second less than two hours is one window and a rest."""
    assert _slow(told) == NOT_EVALUABLE


def test_one_newest_window_that_is_not_low_settles_it() -> None:
    """DLV-07: whether there is another before it does not matter."""
    assert _slow((("PT1H", 3.1, 3.03), ("PT2H", 3.2, 3.13))) == ABSENT
    assert _slow((("PT1H", 0.0, 0.0), ("PT2H", 1.0, 0.5 - 1e-9))) == ABSENT


@pytest.mark.parametrize("running_since", [None, "PT1S"])
def test_the_motor_must_have_run_in_both_windows(running_since: str | None) -> None:
    """DLV-07: a second without it is enough to say nothing."""
    assert _slow(RUNNING, running_since=running_since) == NOT_EVALUABLE


@pytest.mark.parametrize("newest", [0.5, 0.5 - 1e-9, 0.9])
def test_exactly_half_is_not_below_half(newest: float) -> None:
    """In the newest window it is settled at once, in the one before it as well; differences of 1e-9 are rounding."""
    assert _slow(_hourly(0.4, newest)) == ABSENT
    assert _slow(_hourly(newest, 0.4)) == Finding(Presence.ABSENT, ended_at=moment("PT2H"))


def test_a_window_in_which_nothing_was_programmed_says_nothing() -> None:
    """Nothing is up to a thousandth of a microlitre; nothing delivered of a program is too little."""
    for first_ml in (0.0, 1e-6):
        assert _slow((("PT0H", 0.0, 0.0), ("P1D", first_ml, 0.0), ("P1DT1H", 0.1, 0.03))) == NOT_EVALUABLE

    found = _slow(_hourly(0.0, 0.0), owing=("PT2H", 1.0, 0.5))

    assert found.steps == (step(Priority.HIGH, "PT2H"),)


def test_an_open_alert_goes_on_from_its_start_until_both_windows_got_enough() -> None:
    """DLV-07: enough is exactly 0.85 of the program in the lesser of the two."""
    own = track("DLV-07", "PT0M")
    ended = Finding(Presence.ABSENT, ended_at=moment("PT2H"))

    for delivered in ((0.9, 0.84), (0.84, 0.9), (0.6, 0.6)):
        assert _slow(_hourly(*delivered), own).steps == (step(Priority.HIGH, "PT0M"),)
    for delivered in ((0.85, 0.9), (0.9, 0.85), (0.85 - 1e-9, 0.9)):
        assert _slow(_hourly(*delivered), own) == ended


def test_after_an_alert_that_is_over_two_low_windows_are_needed_anew() -> None:
    """DLV-07: what was open before does not make it easier."""
    closed = track("DLV-07", "PT0M", closed=True, present=False)

    assert _slow(_hourly(0.9, 0.4), closed) == Finding(Presence.ABSENT, ended_at=moment("PT2H"))
    assert _slow(_hourly(0.4, 0.4), closed).steps == (step(Priority.HIGH, "PT2H"),)


@pytest.mark.parametrize(("delivered", "latch"), [((0.0, 0.0, 0.0), True), ((0.0, 0.0, 0.001), False)])
def test_what_is_missing_since_it_began_latches_at_half_of_the_budget(
    delivered: tuple[float, ...], latch: bool
) -> None:
    """Three hours' worth, inclusive, since the first window that fell short; without it, in the two windows alone."""
    told = _hourly(*delivered)

    assert _slow(told, owing=told[0]).latch is latch
    assert not _slow(told).latch


def test_what_is_missing_is_told_as_the_time_that_the_program_takes_for_it() -> None:
    """Of a program that got faster: 4.2 of eight millilitres in four hours are 2.1 hours' worth."""
    told = (("PT0H", 10.0, 1.0), ("PT2H", 11.0, 2.0), ("PT3H", 14.0, 3.0), ("PT4H", 18.0, 4.8))

    assert not _slow(told, owing=told[0]).latch
    assert _slow(told, owing=told[0], profile={"risks": ["prior_withdrawal"]}).latch


DAY_DONE = "P20D"


def _drift(*newest: float, **fields: Any) -> Drift:
    opened = (moment("P20D"), 1.0, 1.0)
    return Drift(opened, moment("P21D"), newest=newest, **{"at": moment(DAY_DONE), **fields})


def _drifting(drift: Drift | RefillDrift, *tracks: Episode, at: str = "P22D", **known: Any) -> Finding:
    log = FlowLog(drift=drift) if isinstance(drift, Drift) else FlowLog(refill_drift=drift)
    return judged("DLV-08", at, PumpState(flow=log), *tracks, **known)


QUIET = Finding(Presence.ABSENT, ended_at=moment(DAY_DONE))


def _drifts(priority: Priority, drift: str) -> Finding:
    return Finding(Presence.PRESENT, (step(priority, DAY_DONE),), values={"drift": drift})


def test_without_a_whole_day_there_is_no_drift() -> None:
    """DLV-08: the first day is still running."""
    assert _drifting(_drift(at=None)) == NOT_EVALUABLE


@pytest.mark.parametrize(
    ("sums", "present"),
    [
        (Sums(up=5.0), False),
        (Sums(up=5.01), True),
        (Sums(up=5.01, quiet_up=2), True),
        (Sums(up=5.01, quiet_up=3), False),
        (Sums(down=5.0), False),
        (Sums(down=5.01), True),
        (Sums(down=5.01, quiet_down=2), True),
        (Sums(down=5.01, quiet_down=3), False),
        (Sums(up=5.01, quiet_down=3), True),
        (Sums(down=5.01, quiet_up=3), True),
    ],
)
def test_a_sum_above_its_limit_is_medium_until_three_quiet_days(sums: Sums, present: bool) -> None:
    """DLV-08: each side by itself, above five standard deviations."""
    found = _drifting(_drift(0.01, 0.02, -0.062, sums=sums))

    assert found == (_drifts(Priority.MEDIUM, "-6.2% on the newest day") if present else QUIET)


def test_sums_may_be_known_before_any_day_s_value_is() -> None:
    """A review empties the values: what grew since is told all the same."""
    assert _drifting(_drift(sums=Sums(up=6.0))) == _drifts(Priority.MEDIUM, "+0.0% on the newest day")


@pytest.mark.parametrize(
    ("mean", "profile", "priority"),
    [
        (0.145, {}, None),
        (0.146, {}, Priority.HIGH),
        (0.146, ZICONOTIDE, Priority.HIGH),
        (-0.145, {}, None),
        (-0.146, {}, Priority.HIGH),
        (-0.146, MORPHINE, Priority.HIGH),
        (-0.146, ZICONOTIDE, Priority.MEDIUM),
    ],
)
def test_a_week_that_is_far_off_is_high_but_too_little_of_a_harmless_drug_medium(
    mean: float, profile: dict[str, Any], priority: Priority | None
) -> None:
    """DLV-08: more than 14.5 % off; W1 lowers the under side alone."""
    found = _drifting(_drift(*[mean] * 7), profile=profile)

    assert found == (_drifts(priority, f"{mean:+.1%} on the newest day") if priority else QUIET)


def test_six_days_are_no_week() -> None:
    """DLV-08: the mean is that of seven valid days."""
    assert _drifting(_drift(*[0.2] * 6)) == QUIET


def test_a_sum_above_its_limit_is_no_week_far_off() -> None:
    """DLV-08: a mean at exactly the limit leaves it at MEDIUM."""
    found = _drifting(_drift(*[0.145] * 7, sums=Sums(up=6.0)))

    assert found == _drifts(Priority.MEDIUM, "+14.5% on the newest day")


@pytest.mark.parametrize(
    ("sums", "present"),
    [
        (Sums(up=3.0), False),
        (Sums(up=3.01), True),
        (Sums(down=3.01), True),
        (Sums(up=3.01, quiet_up=1), False),
        (Sums(down=3.01, quiet_down=1), False),
    ],
)
def test_over_refills_one_that_is_near_the_usual_ends_it(sums: Sums, present: bool) -> None:
    """DLV-08 without a sensor: above three standard deviations."""
    found = _drifting(RefillDrift(moment(DAY_DONE), sums))

    assert found == (_drifts(Priority.MEDIUM, "over several refills") if present else QUIET)


@pytest.mark.parametrize("kept", [_drift(sums=Sums(up=6.0)), RefillDrift(moment(DAY_DONE), Sums(up=4.0))])
def test_a_review_since_the_newest_value_ends_what_was_found_before_it(kept: Drift | RefillDrift) -> None:
    """DLV-08: by days and over refills; the alert that it ends began no later than the review."""
    own = track("DLV-08", "P19D", Priority.MEDIUM)
    care = [{"kind": "review", "rule_id": "DLV-08", "from": "P21D", "person": "ada"}]
    reviewed = Finding(Presence.ABSENT, ended_at=moment("P21D"), closed_by="ada")

    assert _drifting(kept, own, care=care) == reviewed
    assert _drifting(kept, track("DLV-08", "P21D"), care=care) == reviewed
    assert _drifting(kept, track("DLV-08", "P21DT1S"), care=care) == ABSENT
    assert _drifting(kept, care=care) == ABSENT
    assert _drifting(kept, track("DLV-08", "P19D", closed=True, present=False), care=care) == ABSENT


@pytest.mark.parametrize("kept", [_drift(sums=Sums(up=6.0)), RefillDrift(moment(DAY_DONE), Sums(up=4.0))])
@pytest.mark.parametrize(("rule_id", "since"), [("DLV-08", DAY_DONE), ("DLV-02", "P21D")])
def test_a_review_that_is_no_later_or_of_another_rule_ends_nothing(
    kept: Drift | RefillDrift, rule_id: str, since: str
) -> None:
    """DLV-08: a review at the very moment of the newest value did not see it."""
    care = [{"kind": "review", "rule_id": rule_id, "from": since}]

    assert _drifting(kept, track("DLV-08", "P19D"), care=care).presence is Presence.PRESENT
