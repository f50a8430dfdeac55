"""The words of typed conditions: durations, numbers, signals, and how long a value counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from pydantic import ValidationError

from streams.domain.profile import STRICTEST
from streams.domain.rule import View
from streams.domain.telemetry import Battery, Emi, EmiLevel, Motor
from streams.domain.typed.signals import (
    READERS,
    Parameter,
    duration,
    fresh,
    kept_for,
    limit_number,
    listens_to,
    moment,
    placeholder,
    plain,
    reader,
)
from streams.domain.world import PumpState
from streams.rehearsal import START
from tests.domain.typed import node, report_of

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("P1W", timedelta(weeks=1)),
        ("P1W2DT3H4M5S", timedelta(days=9, hours=3, minutes=4, seconds=5)),
        ("PT1S", SECOND),
        ("P366D", timedelta(days=366)),
        ("PT8784H", timedelta(days=366)),
        ("P" + "0" * 36 + "2D", timedelta(days=2)),
    ],
)
def test_a_duration_is_read_with_all_of_its_parts(text: str, expected: timedelta) -> None:
    """From a second to 366 days, in fewer than forty characters."""
    assert duration(text) == expected


@pytest.mark.parametrize(
    "value", ["PT", "P", "P1M", "P1D2W", "1D", "P1DT", "PT1,5H", "-P1D", 60, None, "P" + "0" * 37 + "2D"]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    """Months have no length, and parts have an order."""
    with pytest.raises(ValueError, match="expected") as error:
        duration(value)

    assert str(error.value) == "expected an ISO 8601 duration such as PT30M, PT12H or P2D"


@pytest.mark.parametrize(
    "text", ["PT0S", "P0W", "P366DT1S", "P99999999999D", "P9999999999W9999999999D", "PT" + "9" * 30 + "H"]
)
def test_a_duration_is_neither_nothing_nor_longer_than_a_leap_year(text: str) -> None:
    """However large the number is."""
    with pytest.raises(ValueError, match="expected") as error:
        duration(text)

    assert str(error.value) == "expected a duration above zero and of 366 days at most"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, 2.0), (-0.5, -0.5), ({"parameter": "ml"}, Parameter("ml")), (Parameter("ml"), Parameter("ml"))],
)
def test_a_limit_is_a_number_or_the_name_of_one(value: object, expected: object) -> None:
    """An integer becomes a float."""
    found = limit_number(value)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        True,
        "2",
        None,
        float("inf"),
        float("nan"),
        {"parameter": 2},
        {"parameter": "a", "more": 1},
        {"PARAMETER": "a"},
        {},
    ],
)
def test_what_is_no_limit_is_refused(value: object) -> None:
    """Neither a truth value nor a text, and nothing beside the name."""
    with pytest.raises(ValueError, match="expected") as error:
        limit_number(value)

    assert str(error.value) == "expected a finite number, or {parameter: NAME} with one of the rule's parameters"


def test_a_number_that_was_not_given_is_missed_by_name() -> None:
    """What was given is itself."""
    assert plain(2.5) == 2.5
    with pytest.raises(TypeError, match=r"^parameter ml was not given$"):
        plain(Parameter("ml"))


def test_a_signal_is_read_from_its_part_of_thereport() -> None:
    """A part that is not there says nothing, and neither does one that leaves the signal out."""
    full = report_of(motor=Motor.STALLED, battery=Battery(voltage_v=2.5), emi=Emi(level=EmiLevel.MRI, count=3))
    empty = report_of()

    assert READERS["motor"](full) is Motor.STALLED
    assert READERS["battery.voltage_v"](full) == 2.5
    assert READERS["battery"](full) == Battery(voltage_v=2.5)
    assert READERS["emi.level"](full) is EmiLevel.MRI
    assert READERS["emi.count"](full) == 3
    assert READERS["battery.eri"](full) is None
    assert [READERS[name](empty) for name in ("motor", "battery.eri", "emi.level")] == [None, None, None]


def test_a_reader_is_made_of_a_signals_name() -> None:
    """The part before the dot, then what is in it."""
    full = report_of(motor=Motor.STALLED, battery=Battery(voltage_v=2.5))

    assert reader("motor")(full) is Motor.STALLED
    assert reader("battery.voltage_v")(full) == 2.5
    assert reader("battery.voltage_v")(report_of()) is None


def test_a_signal_inside_a_part_listens_to_the_part_and_has_a_name_without_dot() -> None:
    """A format string would look for an attribute."""
    assert listens_to("battery.voltage_v") == {"battery"}
    assert listens_to("motor") == {"motor"}
    assert placeholder("battery.voltage_v") == "battery_voltage_v"
    assert placeholder("motor") == "motor"


@pytest.mark.parametrize(("minutes", "expected"), [(1, 60), (15, 60), (20, 60), (21, 63), (1440, 4320)])
def test_a_value_counts_for_three_intervals_and_at_least_an_hour(minutes: float, expected: float) -> None:
    """Catalogue M.2."""
    therapy = replace(STRICTEST, interval=timedelta(minutes=minutes))

    assert kept_for(therapy) == timedelta(minutes=expected)


@pytest.mark.parametrize(
    ("reported_at", "expected"),
    [(None, False), (START, True), (START - timedelta(hours=1), True), (START - timedelta(hours=1) - SECOND, False)],
)
def test_a_pump_is_fresh_for_as_long_as_its_values_count(reported_at: datetime | None, expected: bool) -> None:
    """Inclusive; one that was never heard is not."""
    assert fresh(View(PumpState(reported_at=reported_at), STRICTEST, {}, START)) is expected


def test_a_moment_is_shown_in_utc_to_the_minute() -> None:
    """As every message shows it."""
    assert moment(START + timedelta(hours=9, minutes=5, seconds=59)) == "2026-11-02 09:05 UTC"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("{type: bolus, where: {outcome: given}}", "where.outcome: expected one of requested, delivered, denied"),
        ("{type: pump_reset, where: {default_program: often}}", "where.default_program: expected one of true, false"),
        ("{type: mri_scheduled, where: {for: x}}", "where.for: events of type mri_scheduled have no field"),
        ("{type: refill, where: {volume_ml: 1}}", "have aspirated_ml, injected_ml, residual_ml"),
    ],
)
def test_an_event_that_cannot_say_what_is_asked_is_refused(where: str, expected: str) -> None:
    """With what it can say, as a rule file would write it."""
    with pytest.raises(ValidationError) as error:
        node(f"event: {{type: interrogation, lasts: PT1H, until: {where}}}")

    assert expected in str(error.value)
