"""A pump's clock to the millisecond: which contacts count, what corrects its times, and what is held or in doubt."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.observing.contacts import (
    MAX_HELD,
    MAX_PEAKS,
    ContactLog,
    Drift,
    Notice,
    Peak,
    Timing,
    ahead,
    ahead_when_late,
    corrected,
    found_late,
    heard,
    measured,
    noticed,
    place,
    released,
    timed,
    told,
)
from streams.domain.profile import STRICTEST
from streams.domain.telemetry import Received
from streams.domain.world import PumpState
from streams.rehearsal import START, moment, profiles_of, received_of

THERAPY = profiles_of({}).therapy(START)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
MINUTES = 60_000


def got(at: str, arrives: str, seq: int = 0, **said: Any) -> Received:
    """A report with the pump's time and when its gateway got it."""
    return received_of({"at": at, "arrives": arrives, "motor": "running", **said}, seq)


def known(*lags_ms: int, **fields: Any) -> Timing:
    """Contacts that a gateway made; the last one goes on since noon."""
    noon = moment("PT12H")
    said: dict[str, Any] = {
        "boot_id": 1,
        "gateway_id": "GW-1",
        "began_at": noon,
        "heard_at": noon,
        "event_time": noon,
        "lags_ms": lags_ms or (0,),
        "plain": True,
        **fields,
    }
    return Timing(**said)


def test_the_first_report_is_the_first_contact() -> None:
    """Of its boot as well."""
    timing, ready = timed(Timing(), got("PT1H", "PT1H0.5S"))

    heard_at = moment("PT1H0.5S")
    assert timing == Timing(
        boot_id=1,
        gateway_id="GW-1",
        began_at=heard_at,
        heard_at=heard_at,
        event_time=moment("PT1H"),
        lags_ms=(500,),
        plain=True,
        boot_heard_at=heard_at,
        boot_time=moment("PT1H"),
    )
    assert ready == (got("PT1H", "PT1H0.5S"),)


@pytest.mark.parametrize(
    ("at", "arrives", "gateway", "same"),
    [
        ("PT12H1M", "PT12H1M", "GW-1", True),
        ("PT12H1M1S", "PT12H1M1S", "GW-1", False),
        ("PT12H1M", "PT12H1M", "GW-2", False),
        ("PT12H0M30S", "PT12H0M40S", "GW-1", True),
    ],
)
def test_a_contact_is_what_one_gateway_got_within_a_minute(at: str, arrives: str, gateway: str, same: bool) -> None:
    """Inclusive; its newest report counts."""
    timing, _ = timed(known(700, 100), got(at, arrives, gateway_id=gateway))

    lag = (moment(arrives) - moment(at)) // timedelta(milliseconds=1)
    assert timing.lags_ms == ((700, lag) if same else (700, 100, lag))
    assert timing.began_at == (moment("PT12H") if same else moment(arrives))
    assert (timing.heard_at, timing.event_time, timing.gateway_id) == (moment(arrives), moment(at), gateway)


def test_a_clock_that_goes_on_keeps_all_else_that_is_known_of_it() -> None:
    """Its boot, what was let go, and what began the boot; less than a millisecond is none."""
    timing = known(700, let_go=((1, 1),), boot_heard_at=START, boot_time=START)
    at = moment("PT13H")

    after, _ = timed(timing, got("PT13H", "PT13H0.0005S"))

    heard_at = moment("PT13H0.0005S")
    assert after == replace(timing, lags_ms=(700, 0), began_at=heard_at, heard_at=heard_at, event_time=at)
    assert timed(replace(timing, plain=False), got("PT13H", "PT13H0.0005S"))[0] == after


@pytest.mark.parametrize(
    ("arrives", "lag", "same"),
    [
        ("PT12H1M", 100 * MINUTES, True),
        ("PT12H1M1S", 99 * MINUTES, False),
        ("PT12H1M1S", 99 * MINUTES - 1, True),
        ("PT12H2M1S", 90 * MINUTES, False),
    ],
)
def test_a_contact_goes_on_while_a_buffer_is_read(arrives: str, lag: int, same: bool) -> None:
    """Each report younger by more than a minute, and none of them more than a minute after the one before."""
    timing = known(100 * MINUTES, heard_at=moment("PT12H1M"), event_time=moment("PT10H"), plain=False)
    at = moment(arrives) - timedelta(milliseconds=lag) - START

    after, _ = timed(timing, got(f"PT{at.total_seconds():.3f}S", arrives))

    assert after.lags_ms == ((lag,) if same else (100 * MINUTES, lag))


def test_a_gateway_s_clock_that_went_back_by_a_minute_is_the_same_contact() -> None:
    """By more it is another one."""

    def count(arrives: str) -> int:
        return len(timed(known(plain=False), got("PT11H59M30S", arrives))[0].lags_ms)

    assert (count("PT11H59M"), count("PT11H58M59S")) == (1, 2)


def test_a_gateway_is_never_believed_to_be_ahead_of_the_service() -> None:
    """Its report was got when it arrived."""
    report = got("PT1H", "PT1H", gateway_time=moment("PT1H10S").isoformat())

    assert heard(report) == moment("PT1H")
    assert heard(got("PT1H", "PT2H", gateway_time=moment("PT1H10S").isoformat())) == moment("PT1H10S")
    assert timed(Timing(), report)[0].lags_ms == (0,)
    assert place(got("PT1H", "PT1H", 7, boot_id=3)) == (3, 7)


def test_twenty_contacts_are_kept_however_they_come() -> None:
    """The newest ones."""
    lags = tuple(range(20))

    plain, _ = timed(known(*lags), got("PT13H", "PT13H"))
    rebooted, _ = timed(known(*lags), got("PT13H", "PT13H", boot_id=2))

    assert plain.lags_ms == rebooted.lags_ms == (*lags[1:], 0)


def test_after_a_reboot_only_contacts_that_agree_are_left() -> None:
    """To a minute, inclusive; the boot began with this report."""
    timing = known(-60_001, -60_000, 60_000, 60_001, plain=True)

    after, _ = timed(timing, got("PT13H", "PT13H", boot_id=2))

    assert after.lags_ms == (-60_000, 60_000, 0)
    assert (after.boot_id, after.began_at, after.boot_heard_at, after.boot_time) == (
        2,
        moment("PT13H"),
        moment("PT13H"),
        moment("PT13H"),
    )
    assert not after.jumped
    assert timed(timing, got("PT12H30S", "PT12H30S", boot_id=2))[0].began_at == moment("PT12H30S")


@pytest.mark.parametrize(
    ("at", "arrives", "jumped", "twins"),
    [
        ("PT11H59M", "PT12H5M", False, False),
        ("PT11H58M59S", "PT12H5M", True, False),
        ("PT11H30M", "PT11H59M", True, False),
        ("PT11H30M", "PT11H58M59S", False, True),
        ("PT11H59M", "PT11H58M59S", False, False),
    ],
)
def test_a_clock_that_goes_back_alone_by_more_than_a_minute_was_set(
    at: str, arrives: str, jumped: bool, twins: bool
) -> None:
    """Where the gateways' time goes back with it, two pumps take turns."""
    lags = (0, 30 * MINUTES, 9 * MINUTES, 0)

    timing, _ = timed(known(*lags), got(at, arrives))

    lag = (moment(arrives) - moment(at)) // timedelta(milliseconds=1)
    agreeing = (*(known_ms for known_ms in lags if abs(known_ms - lag) <= 60_000), lag)
    assert (timing.jumped, timing.twins) == (jumped, twins)
    assert (timing.lags_ms == agreeing) is jumped


def jumped(*lags_ms: int) -> Timing:
    """After a jump backwards, and one more contact of the last lag."""
    *before, lag = lags_ms
    timing = known(*before, jumped=True, plain=False)
    at = moment("PT13H") - timedelta(milliseconds=lag) - START
    return timed(replace(timing, event_time=None), got(f"PT{at.total_seconds():.3f}S", "PT13H"))[0]


def test_after_a_jump_two_contacts_that_agree_correct_the_time() -> None:
    """To a minute, inclusive; until then an offset of more than two minutes is in doubt."""
    agreed = jumped(10 * MINUTES, 11 * MINUTES)
    apart = jumped(10 * MINUTES, 11 * MINUTES + 1)

    assert (agreed.offset_ms, agreed.jumped, agreed.doubtful) == (10 * MINUTES + 30_000, True, False)
    assert (apart.offset_ms, apart.jumped, apart.doubtful) == (0, True, True)
    assert jumped(10 * MINUTES, 2 * MINUTES).doubtful is False
    assert jumped(10 * MINUTES, 2 * MINUTES + 1).doubtful is True
    assert jumped(10 * MINUTES, -2 * MINUTES - 1).doubtful is True
    assert jumped(0, 1).plain is False


def test_five_contacts_settle_a_jump() -> None:
    """The median counts then, of an even number the mean of the middle two."""
    five = jumped(9 * MINUTES, 30 * MINUTES, 10 * MINUTES, 1 * MINUTES, 11 * MINUTES)
    six = jumped(9 * MINUTES, 30 * MINUTES, 10 * MINUTES, 1 * MINUTES, 11 * MINUTES, 12 * MINUTES)

    assert (five.offset_ms, five.jumped, five.doubtful) == (10 * MINUTES, False, False)
    assert (six.offset_ms, six.median_ms) == (10 * MINUTES + 30_000, 10 * MINUTES + 30_000)
    assert known(3, 0, 2, 1, 0, 3).median_ms == 1
    assert known(*[9] * 4).median_ms is None
    assert known(*[9] * 5).median_ms == 9


@pytest.mark.parametrize(
    ("lag", "plain", "offset"),
    [
        (2 * MINUTES, True, 0),
        (2 * MINUTES + 1, False, 2 * MINUTES + 1),
        (-2 * MINUTES, True, 0),
        (-2 * MINUTES - 1, False, -2 * MINUTES - 1),
    ],
)
def test_an_offset_of_more_than_two_minutes_corrects(lag: int, plain: bool, offset: int) -> None:
    """Either way; up to there it is transport, and a pump all of whose contacts are such is plain."""
    at = moment("PT13H") - timedelta(milliseconds=lag) - START
    report = got(f"PT{at.total_seconds():.3f}S", "PT13H")

    timing, (ready,) = timed(known(*[lag] * 4, plain=False), report)

    assert (timing.plain, timing.offset_ms) == (plain, offset)
    assert ready.report.event_time == report.report.event_time + timedelta(milliseconds=offset)
    settled, _ = timed(known(*[lag] * 4, plain=True), report)
    assert (settled.plain, settled.offset_ms) == (plain, offset)


def test_a_clock_that_was_set_forward_is_learnt_from_five_contacts_that_agree() -> None:
    """To a minute, inclusive; those before would hide it."""

    def offset(*recent: int) -> Timing:
        at = moment("PT13H") + 90 * MINUTE - START
        timing = known(*[0] * 10, *recent, plain=False)
        return timed(timing, got(f"PT{at.total_seconds():.0f}S", "PT13H"))[0]

    ninety = -90 * MINUTES
    assert offset(*[ninety] * 4).offset_ms == ninety
    assert offset(*[ninety] * 4).lags_ms == (ninety,) * 5
    assert offset(ninety, ninety, ninety, ninety + 60_000).offset_ms == ninety
    assert offset(ninety, ninety, ninety, ninety + 60_001).offset_ms == 0
    assert len(offset(*[ninety] * 3).lags_ms) == 14


def test_a_report_more_than_five_minutes_ahead_is_held() -> None:
    """Exclusive; an offset ahead explains it, one behind does not."""
    exact, over = got("PT13H5M", "PT13H"), got("PT13H5M0.001S", "PT13H")

    assert not ahead(exact, 0)
    assert not ahead(exact, 9 * MINUTES)
    assert ahead(over, 0)
    assert not ahead(over, -1)
    assert ahead(over, 9 * MINUTES)
    held, ready = timed(known(), over)
    assert (held.held, ready, held.plain) == ((over,), (), False)
    assert timed(known(), exact)[1] == (exact,)


def test_what_is_held_is_let_go_once_the_offset_explains_it() -> None:
    """In order, before the report that explained it; its identity is remembered."""
    waiting = tuple(got("PT15H", "PT12H", seq) for seq in (3, 4))
    timing = known(*[-180 * MINUTES] * 4, held=waiting, plain=False, let_go=((1, 1),))

    after, ready = timed(timing, got("PT16H", "PT13H", 5))

    assert [one.report.seq for one in ready] == [3, 4, 5]
    assert [one.report.event_time for one in ready] == [moment("PT12H"), moment("PT12H"), moment("PT13H")]
    assert (after.held, after.let_go) == ((), ((1, 1), (1, 3), (1, 4)))
    assert released(after, waiting) == waiting
    assert released(timing, waiting) == ()
    assert released(replace(after, held=waiting[:1]), waiting) == waiting[1:]


def test_what_nothing_explained_for_a_day_is_waited_for_no_more() -> None:
    """Inclusive; and no more than fifty are held, the newest ones."""
    old = got("PT36H", "PT12H")

    def left(arrives: str) -> int:
        return len(timed(known(held=(old,), plain=False), got(arrives, arrives, 1))[0].held)

    assert (left("P1DT12H"), left("P1DT12H1S")) == (1, 0)
    many = tuple(got("PT20H", "PT12H", seq) for seq in range(MAX_HELD))
    after, _ = timed(known(held=many, plain=False), got("PT21H", "PT13H", 99))
    assert [one.report.seq for one in after.held] == [*range(1, MAX_HELD), 99]
    assert not timed(known(held=(old,), plain=False), got("PT13H", "PT13H", 1))[0].plain


def test_a_hundred_identities_of_what_was_let_go_are_remembered() -> None:
    """The newest ones."""
    timing = known(
        *[-180 * MINUTES] * 4,
        held=(got("PT15H", "PT12H", 500),),
        let_go=tuple((1, seq) for seq in range(2 * MAX_HELD)),
        plain=False,
    )

    after, _ = timed(timing, got("PT16H", "PT13H", 501))

    assert after.let_go == (*((1, seq) for seq in range(1, 2 * MAX_HELD)), (1, 500))


def test_times_are_moved_to_the_gateway_s_and_never_past_it() -> None:
    """Backwards by the whole offset, forwards up to when the gateway got the report; events without a time stay so."""
    report = got("PT1H", "PT1H5M", events=[{"type": "valve_reset"}, {"type": "valve_reset", "at": "PT30M"}])

    back, forth, beyond = (corrected(report, minutes * MINUTES).report for minutes in (-30, 3, 30))

    assert corrected(report, 0) is report
    assert [back.event_time, back.events[0].at, back.events[1].at] == [moment("PT30M"), None, START]
    assert [forth.event_time, forth.events[1].at] == [moment("PT1H3M"), moment("PT33M")]
    assert [beyond.event_time, beyond.events[1].at] == [moment("PT1H5M"), moment("PT1H")]
    early = got("PT1H5M", "PT1H")
    assert corrected(early, 30 * MINUTES).report.event_time == moment("PT1H5M")
    assert corrected(report, 1).received_at == report.received_at


@pytest.mark.parametrize(
    ("at", "arrives", "boot_id", "twins"),
    [
        ("PT12H1M1S", "PT12H1M1S", 2, True),
        ("PT12H1M", "PT12H1M1S", 2, False),
        ("PT12H1M1S", "PT12H1M", 2, False),
        ("PT12H1M1S", "PT12H1M1S", 3, False),
    ],
)
def test_an_older_boot_that_says_something_newer_later_is_another_pump(
    at: str, arrives: str, boot_id: int, twins: bool
) -> None:
    """By more than a minute, both by its own time and by its gateway's."""
    began = {"boot_heard_at": moment("PT12H"), "boot_time": moment("PT12H")}
    timing, report = known(boot_id=3, **began), got(at, arrives, boot_id=boot_id)

    after, ready = found_late(timing, report)

    assert after == replace(timing, twins=twins)
    assert ready == (report,)
    assert not found_late(known(boot_id=3), report)[0].twins
    assert found_late(replace(timing, twins=True), report)[0].twins is twins
    assert twins or found_late(timing, report)[0] is timing


def test_what_is_found_late_is_corrected_within_its_own_boot() -> None:
    """Of another boot nobody knows the offset."""
    timing, report = known(offset_ms=-180 * MINUTES), got("PT15H", "PT12H")
    other = got("PT15H", "PT12H", boot_id=2)

    assert [one.report.event_time for one in found_late(timing, report)[1]] == [moment("PT12H")]
    assert found_late(timing, other)[1] == ()
    assert (ahead_when_late(timing, report), ahead_when_late(timing, other)) == (False, True)


# What people are told --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("median", "drift"),
    [
        (2 * MINUTES, None),
        (2 * MINUTES + 1, Drift(True, (Peak(2, moment("PT13H")),))),
        (-3 * MINUTES, Drift(False, (Peak(2, moment("PT13H")),))),
        (-3 * MINUTES - 1, Drift(False, (Peak(3, moment("PT13H")),))),
    ],
)
def test_a_clock_that_is_off_by_more_than_two_minutes_is_told(median: int, drift: Drift | None) -> None:
    """In whole minutes that it exceeds; from five contacts on, and until it is within them again."""
    log = told(ContactLog(), known(*[median] * 5), got("PT13H", "PT13H"))

    assert log == ContactLog(drift=drift)
    old = ContactLog(drift=Drift(True, (Peak(9, START),)))
    assert told(old, known(*[MINUTES] * 5), got("PT13H", "PT13H")) == ContactLog()
    assert told(old, known(*[MINUTES] * 4), got("PT13H", "PT13H")) is old


def test_only_higher_peaks_of_a_drift_are_news() -> None:
    """Sixteen of them; a clock that is off the other way is another drift."""
    behind = Drift(True, (Peak(5, START), Peak(7, START), Peak(9, START)))

    def after(drift: Drift, median: int) -> Drift | None:
        return told(ContactLog(drift=drift), known(*[median] * 5), got("PT13H", "PT13H")).drift

    assert after(behind, 10 * MINUTES) == behind
    assert after(behind, 10 * MINUTES + 1) == Drift(True, (*behind.peaks, Peak(10, moment("PT13H"))))
    assert after(behind, -10 * MINUTES) == Drift(False, (Peak(9, moment("PT13H")),))
    many = Drift(True, tuple(Peak(minutes, START) for minutes in range(MAX_PEAKS)))
    assert after(many, 99 * MINUTES) == Drift(True, (*many.peaks[:-1], Peak(98, moment("PT13H"))))


@pytest.mark.parametrize(
    ("said", "tells"),
    [
        ({"alarms": ["battery_reset"]}, True),
        ({"alarms": ["low_reservoir"]}, False),
        ({"motor": "stalled"}, True),
        ({}, False),
    ],
)
def test_a_critical_report_whose_time_cannot_be_trusted_is_told(said: dict[str, Any], tells: bool) -> None:
    """Where it is in doubt, or held itself; the first one counts."""
    report, other = got("PT15H", "PT13H", **said), got("PT15H", "PT13H", 1)
    expected = moment("PT13H") if tells else None

    assert told(ContactLog(), known(doubtful=True), report).alarm_at == expected
    assert told(ContactLog(), known(held=(other, other, report)), report).alarm_at == expected
    assert told(ContactLog(), known(held=(report, other)), report).alarm_at is None
    assert told(ContactLog(), known(), report).alarm_at is None
    first = ContactLog(alarm_at=START)
    assert told(first, known(doubtful=True), report) is first


def test_what_a_pump_says_of_its_alarms_at_a_trusted_time_ends_it() -> None:
    """A report that leaves them out does not."""
    log = ContactLog(alarm_at=START)

    assert told(log, known(), got("PT13H", "PT13H", alarms=[])).alarm_at is None
    assert told(log, known(), got("PT13H", "PT13H")) is log


def test_two_pumps_under_one_id_are_noticed() -> None:
    """As of when the gateway got the report."""
    log = told(ContactLog(), known(twins=True), got("PT13H", "PT13H1S"))

    assert log == ContactLog(twins=Notice(moment("PT13H1S"), moment("PT13H1S")))
    again = told(log, known(twins=True), got("PT14H", "PT14H"))
    assert again.twins == Notice(moment("PT13H1S"), moment("PT14H"))


def test_a_notice_goes_on_for_a_day() -> None:
    """Inclusive, also when it is told out of order; one that ended begins anew."""
    notice = Notice(START, START + MINUTE)

    assert noticed(None, START) == Notice(START, START)
    assert noticed(notice, moment("P1DT1M")) == Notice(START, moment("P1DT1M"))
    assert noticed(notice, moment("P1DT1M1S")) == Notice(moment("P1DT1M1S"), moment("P1DT1M1S"))
    assert noticed(notice, START - MINUTE) == Notice(START - MINUTE, START + MINUTE)
    assert noticed(replace(notice, end=START + MINUTE), START + MINUTE) == Notice(START + MINUTE, START + MINUTE)


def test_a_pump_without_a_profile_is_unknown_since_its_first_report() -> None:
    """Until it has one."""

    def after(log: ContactLog, at: str, known: bool) -> ContactLog:
        return measured(log, PumpState(), THERAPY if known else STRICTEST, got(at, at).report)

    unknown = after(ContactLog(), "PT1H", False)

    assert unknown == ContactLog(unknown_since=moment("PT1H"))
    assert after(unknown, "PT2H", False) is unknown
    assert after(unknown, "PT2H", True) == ContactLog()
    clear = ContactLog()
    assert after(clear, "PT2H", True) is clear
