"""A cohort judges the rules: truth, delivery, scoring by hand, and small cohorts from one end to the other."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import uuid4

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from services.cli import app
from services.emulator.cohort import run as running
from services.emulator.cohort.assigning import assign
from services.emulator.cohort.delivery import deliver, next_round, outages_of
from services.emulator.cohort.hazards import FAMILIES, KINDS
from services.emulator.cohort.judging import Judgement, Notice
from services.emulator.cohort.patients import patients
from services.emulator.cohort.plan import Acceptance, Cohort, CohortError, load, parse
from services.emulator.cohort.score import Score, score
from services.emulator.cohort.truth import AFTERMATH, Hazard, Outage, Severity, fair
from streams.domain.alert import Priority
from streams.settings import RULES

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
YEAR = 365.25
IN_FORCE = frozenset({"DLV-01", "DLV-09", "RSV-01"})


def a_hazard(severity: Severity = Severity.HIGH, rules: tuple[str, ...] = ("DLV-01",), **changed: object) -> Hazard:
    """A hazard from noon to three, to be known by one."""
    hazard = Hazard(
        hazard_id="P-1/motor_stall/1",
        kind="motor_stall",
        pump_id="P-1",
        covers=("HZ-01",),
        rules=rules,
        also=("DLV-09",),
        severity=severity,
        onset=NOON,
        know_by=NOON + HOUR,
        until=NOON + 3 * HOUR,
    )
    return msgspec.structs.replace(hazard, **changed)


def told(rule_id: str, at: datetime, priority: Priority = Priority.HIGH, *, page: bool = True) -> Notice:
    """An alert that raised."""
    return Notice(uuid4(), rule_id, priority, at, at, page)


def scored(
    notices: Sequence[Notice], hazards: Sequence[Hazard] = (), days: float = YEAR, limits: Acceptance | None = None
) -> Score:
    """The score of one pump."""
    judgement = Judgement(
        pump_id="P-1",
        days=days,
        reports=1,
        notices=tuple(notices),
        alerts=tuple((notice.rule_id, notice.priority, notice.effective_at) for notice in notices),
        flaps={},
        history=(),
        hazards=tuple(hazards),
    )
    return score([judgement], IN_FORCE, limits or Acceptance())


# Truth ---------------------------------------------------------------------------------------------------------------


def test_a_deadline_that_falls_into_an_outage_moves_behind_it() -> None:
    """Nobody can know what no gateway passes on; an outage before the onset or after the deadline moves nothing."""
    during = Outage(NOON - HOUR, NOON + 2 * HOUR)

    moved = fair(a_hazard(), (during,), 16 * MINUTE)

    assert (moved.know_by, moved.held_back) == (NOON + 2 * HOUR + 16 * MINUTE, True)
    elsewhere = (Outage(NOON - 2 * HOUR, NOON), Outage(NOON + HOUR + MINUTE, NOON + 5 * HOUR))
    assert fair(a_hazard(), elsewhere, 16 * MINUTE) == a_hazard()


def test_a_hazard_explains_its_rules_until_a_day_after_its_end_and_what_lingers_until_the_refill() -> None:
    """The window of attribution is closed at both ends."""
    hazard = a_hazard(lingers=("REF-02",), lingers_until=NOON + 20 * DAY)

    assert [hazard.explains("DLV-09", at) for at in (NOON - MINUTE, NOON, NOON + 3 * HOUR + AFTERMATH)] == [
        False,
        True,
        True,
    ]
    assert not hazard.explains("DLV-01", NOON + 3 * HOUR + AFTERMATH + MINUTE)
    assert hazard.explains("REF-02", NOON + 20 * DAY + AFTERMATH)
    assert not hazard.explains("TMP-01", NOON)


def test_every_kind_of_hazard_names_what_it_covers_and_the_rules_that_must_see_it() -> None:
    """Together they reach every rule that the worker judges but the one that pages nobody (MRI-01)."""
    rules = {rule for kind in KINDS.values() for rule in kind.rules} | {"RSV-02", "REF-04"}
    families = {"RSV": 5, "REF": 4, "DLV": 9, "MRI": 6, "EMI": 1, "PWR": 3, "TMP": 1, "COM": 2}
    every = {f"{family}-{number:02d}" for family, count in families.items() for number in range(1, count + 1)}
    every |= {f"THR-{number:02d}" for number in (1, 2, 3, 4, 6, 7)}

    assert all(kind.covers and all(name.startswith("HZ-") for name in kind.covers) for kind in KINDS.values())
    assert every - rules == {"MRI-01"}


def test_no_two_families_have_a_kind_of_the_same_name() -> None:
    """One would hide the other."""
    assert sum(len(family.KINDS) for family in FAMILIES) == len(KINDS)


def test_hazards_of_one_pump_never_overlap_and_strike_as_often_as_the_file_says() -> None:
    """Where there is room: the standard cohort has room for all of its hazards but a few of the longest."""
    cohort = load("standard")
    everyone = patients(cohort)

    strikes = assign(cohort, everyone)

    assert sum(map(len, strikes.values())) >= 0.97 * sum(cohort.hazards.values())
    for patient in everyone:
        ends = cohort.start
        for at, kind in strikes[patient.number]:
            assert at >= ends
            assert KINDS[kind].fits(patient)
            ends = at + KINDS[kind].days * DAY


# Scoring -------------------------------------------------------------------------------------------------------------


def test_a_high_hazard_needs_a_high_page_by_its_deadline() -> None:
    """Exactly at the deadline is in time; medium, a child's alert, or a second later is not."""
    at = NOON + HOUR

    assert scored([told("DLV-01", at)], [a_hazard()]).sensitivity_high == 1.0
    assert scored([told("DLV-09", at)], [a_hazard()]).sensitivity_high == 1.0
    for late in (
        told("DLV-01", at, Priority.MEDIUM),
        told("DLV-01", at, page=False),
        told("DLV-01", at + timedelta(seconds=1)),
        told("RSV-01", at),
    ):
        assert scored([late], [a_hazard()]).sensitivity_high == 0.0


def test_a_medium_hazard_takes_any_page_and_a_low_one_an_alert_of_its_own_rules() -> None:
    """Low alerts page nobody."""
    medium, low = a_hazard(Severity.MEDIUM), a_hazard(Severity.LOW)

    assert scored([told("DLV-09", NOON, Priority.MEDIUM)], [medium]).sensitivity_medium == 1.0
    assert scored([told("DLV-01", NOON, Priority.LOW, page=False)], [low]).sensitivity_low == 1.0
    assert scored([told("DLV-09", NOON, Priority.LOW, page=False)], [low]).sensitivity_low == 0.0


def test_a_hazard_whose_rules_do_not_exist_is_counted_apart() -> None:
    """It is neither seen nor missed."""
    found = scored([], [a_hazard(rules=("THR-02",))])

    assert (found.hazards, found.not_judged, found.sensitivity_high, found.missed) == (1, 1, None, ())


def test_a_page_that_nothing_explains_is_false_also_in_the_hours_of_another_hazard() -> None:
    """Two false pages in half a patient-year are four per patient-year."""
    notices = [told("DLV-01", NOON), told("RSV-01", NOON, Priority.MEDIUM), told("DLV-01", NOON - DAY)]

    found = scored(notices, [a_hazard()], days=YEAR / 2)

    assert (found.pages, found.false_pages, found.false_high_pages) == (3, 2, 1)
    assert (found.false_per_patient_year, found.false_high_per_patient_year) == (4.0, 2.0)
    assert [(page.rule_id, page.near) for page in found.false] == [
        ("RSV-01", ("P-1/motor_stall/1",)),
        ("DLV-01", ("P-1/motor_stall/1",)),
    ]
    assert found.background_high_share == 0.5


def test_the_acceptance_says_what_was_not_met() -> None:
    """Limits are inclusive."""
    high = scored([told("DLV-01", NOON)], days=10 * YEAR)
    assert (high.false_high_per_patient_year, high.failures[0].split(":")[0]) == (0.1, "share of high beside hazards")

    missed = scored([], [a_hazard()])
    assert missed.failures == ("high hazards paged in time: 0.00%, at least 100%",)
    assert not missed.accepted
    assert scored([told("DLV-01", NOON)], [a_hazard()]).accepted


# Delivery ------------------------------------------------------------------------------------------------------------


def small(**changed: object) -> Cohort:
    """Six pumps, ten days, with hazards that the rules of today see."""
    cohort = load("standard")
    hazards = {"motor_stall": 2, "motor_unreadable": 1, "mri_recovery_overdue": 1, "mri_undeclared": 1}
    return cohort.model_copy(update={"name": "small", "pumps": 6, "days": 10, "hazards": hazards, **changed})


def test_delivery_loses_nothing_and_invents_nothing() -> None:
    """However dirty, the set of reports that arrives is what the pump said; an outage holds them back."""
    cohort = small()
    patient = patients(cohort)[0]
    lived = running.live(cohort, patient, ())
    dirt = running.disturbed(cohort.dirt, 0.2)

    arrivals = deliver(lived, dirt, Random(1))

    numbers = [(received.report.boot_id, received.report.seq) for received in arrivals]
    assert set(numbers) == {(spoken.report.boot_id, spoken.report.seq) for spoken in lived.spoken}
    assert len(numbers) - len(set(numbers)) == pytest.approx(0.2 * len(lived.spoken), rel=0.2)
    assert numbers != sorted(numbers)
    assert [received.received_at for received in arrivals] == sorted(received.received_at for received in arrivals)
    assert all(received.received_at > received.report.gateway_time for received in arrivals)


def test_pumps_of_one_gateway_lose_their_link_together() -> None:
    """Outages belong to gateways, and do not overlap."""
    cohort = load("standard")
    first, second = patients(cohort)[:2]

    outages = outages_of(cohort, first.gateway)

    assert outages == outages_of(cohort, second.gateway)
    assert outages
    assert all(before.back < after.lost for before, after in itertools.pairwise(outages))


def test_a_round_follows_each_moment_within_sixteen_hours() -> None:
    """A round's own moment already belongs to the next one."""
    assert next_round(NOON) == NOON + 3 * HOUR
    assert next_round(NOON + 3 * HOUR) == NOON + 19 * HOUR


# From one end to the other -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lived() -> running.Result:
    """The small cohort, and once more with twenty of a hundred reports twice and twenty up to an hour late."""
    return running.run(small(), RULES, processes=1, compare=0.2)


def test_a_small_cohort_sees_its_hazards_in_time(lived: running.Result) -> None:
    """Six pumps, ten days: every high hazard is paged in time, and nobody needlessly."""
    assert lived.score.sensitivity_high == 1.0
    assert {kind.kind for kind in lived.score.kinds} == set(small().hazards)
    assert lived.score.false_high_pages == 0


def test_duplicated_and_reordered_delivery_gives_the_same_effective_history(lived: running.Result) -> None:
    """G3."""
    assert lived.differences == ()
    assert sum(len(judgement.history) for judgement in lived.judgements) > 0


def test_a_cohort_is_the_same_again_by_its_seed_alone() -> None:
    """Each pump has chances of its own, whichever process lives its life."""
    cohort = small(pumps=3, days=4, hazards={"motor_stall": 1})

    alone = running.run(cohort, RULES, processes=1)

    assert running.run(cohort, RULES, processes=2) == alone
    assert running.run(cohort.model_copy(update={"seed": 2}), RULES, processes=1).score != alone.score


def test_the_command_writes_a_table_json_and_plots(tmp_path: Path) -> None:
    """And exits with 0 when the acceptance is met, 1 when it is not, 2 when the file cannot be used."""
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps(small(pumps=2, days=5, hazards={"motor_stall": 1}).model_dump(mode="json")))
    command = ["cohort", "run", str(file), "--processes", "1", "--out", str(tmp_path / "out")]

    done = CliRunner().invoke(app, command)
    printed = CliRunner().invoke(app, [*command, "--json", "--days", "4"])

    assert (done.exit_code, printed.exit_code) == (0, 0), done.output
    assert "accepted" in done.output
    assert json.loads((tmp_path / "out" / "small.json").read_text()) == json.loads(printed.stdout)
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert [path.stem for path in pictures] == [
        "small-false-pages",
        "small-priorities",
        "small-sensitivity",
        "small-time-to-page",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert CliRunner().invoke(app, ["cohort", "run", "nowhere.yaml"]).exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not YAML"),
        ("name: a", "title: field is required"),
        ("hazards: {meteor: 1}", "there is no hazard meteor"),
        ("surprise: 1", "surprise: unknown field"),
    ],
)
def test_a_wrong_cohort_file_is_refused_with_its_place(text: str, said: str) -> None:
    """The first thing that is wrong is named."""
    document = load("standard").model_dump(mode="json")
    extra = text if text in ("{", "name: a") else json.dumps({**document, **_pairs(text)})

    with pytest.raises(CohortError, match=said):
        parse(extra, "test")


def _pairs(text: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(text)
    return found


def test_a_cohort_of_another_size_keeps_the_rate_of_its_hazards() -> None:
    """At least one of each kind stays."""
    cohort = load("standard")

    half = cohort.resized(100, None, 7)

    assert (half.pumps, half.days, half.seed) == (100, 90, 7)
    assert half.hazards["motor_stall"] == 7
    assert min(cohort.resized(2, 2, None).hazards.values()) == 1
