"""What patients report, at the edges: when it counts, and what explains it or has been looked into (THR-06, THR-07)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.alert import Episode, Priority, Reason
from streams.domain.observing.boluses import Bolus, BolusLog, Use, site_day
from streams.domain.observing.dosing import Complaint, Dose, DoseHistory, DosingLog
from streams.domain.observing.fills import FillLog, Outcome
from streams.domain.profile import ProfileHistory
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.telemetry import Alarm
from streams.domain.world import PumpState, Symptoms
from streams.rehearsal import START, profiles_of
from tests.domain.judging import BACLOFEN, DAY, HOUR, MINUTE, SECOND, ended_of, episode, judged, steps_of

LOW, MEDIUM, HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH
NOW = timedelta(0)
MORPHINE: dict[str, Any] = {
    "drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000.0}],
    "prescribed_ug_per_day": 2000.0,
}


def _ratios(*ratios: float) -> FillLog:
    return FillLog(outcomes=tuple(Outcome(START - 9 * DAY, 10.0, 10.0 * ratio, START) for ratio in ratios))


def _missed(*times: timedelta, **fields: Any) -> PumpState:
    """A pump that works as programmed, whose patient misses the effect at these times."""
    symptoms = tuple(Symptoms(START + after, ("loss_of_effect",)) for after in times)
    return PumpState(**{"motor": "running", "fills": _ratios(1.0, 1.0, 1.0), "symptoms": symptoms, **fields})


def _reviewed(*after: str, rule_id: str = "THR-06") -> ProfileHistory:
    care = [{"kind": "review", "from": at, "rule_id": rule_id, "person": f"person {at}"} for at in after]
    return profiles_of({}, care=care)


# THR-06 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "suspect"), [(7 * DAY, True), (7 * DAY + SECOND, False)])
def test_a_missed_effect_counts_for_a_week(after: timedelta, suspect: bool) -> None:
    """THR-06: inclusive; what is older opens nothing."""
    finding = judged("THR-06", _missed(NOW), START + after)

    assert finding.presence is (Presence.PRESENT if suspect else Presence.ABSENT)
    assert steps_of(finding) == ([(MEDIUM, NOW)] if suspect else [])


def test_the_first_of_two_missed_effects_counts() -> None:
    """THR-06: the alert is as old as the first report that nobody has looked into; other symptoms open nothing."""
    other = _missed(symptoms=(Symptoms(START, ("pain_increase",)),))

    assert steps_of(judged("THR-06", _missed(HOUR, 2 * HOUR), START + DAY)) == [(MEDIUM, HOUR)]
    assert judged("THR-06", other, START + DAY) == ABSENT


@pytest.mark.parametrize(
    ("state", "finding"),
    [
        (_missed(NOW, motor="stopped"), ABSENT),
        (_missed(NOW, motor=None), NOT_EVALUABLE),
        (_missed(NOW, fills=_ratios(1.0, 1.0)), NOT_EVALUABLE),
        (_missed(NOW, fills=_ratios(1.2, 1.0)), ABSENT),
        (_missed(NOW, fills=_ratios(1.0, 1.1451, 1.0)), ABSENT),
        (_missed(NOW, fills=_ratios(1.0, 0.8549, 1.0)), ABSENT),
        (_missed(), ABSENT),
        (_missed(motor=None), NOT_EVALUABLE),
    ],
)
def test_a_pump_that_is_not_known_to_be_normal_points_elsewhere(state: PumpState, finding: Finding) -> None:
    """THR-06: a motor that runs and three refills that fit; where too little is known nobody can say."""
    assert judged("THR-06", state, START + HOUR) == finding


@pytest.mark.parametrize("ratio", [0.855, 1.145])
def test_a_refill_on_the_edge_of_the_label_fits(ratio: float) -> None:
    """THR-06: both limits are inclusive, and a fourth refill before the last three does not matter."""
    state = _missed(NOW, fills=_ratios(2.0, ratio, ratio, ratio))

    assert steps_of(judged("THR-06", state, START + HOUR)) == [(MEDIUM, NOW)]


@pytest.mark.parametrize("rule_id", ["DLV-01", "DLV-09", "RSV-01", "RSV-05", "MRI-01", "MRI-06"])
@pytest.mark.parametrize(("priority", "elsewhere"), [(LOW, False), (MEDIUM, True), (HIGH, True)])
def test_an_open_alert_of_the_pump_points_elsewhere(rule_id: str, priority: Priority, elsewhere: bool) -> None:
    """THR-06: of DLV, RSV and MRI, at MEDIUM or above; one that is closed does not matter."""
    track = episode(rule_id, (priority, HOUR))

    finding = judged("THR-06", _missed(NOW), START + 2 * HOUR, tracks=[track])

    assert (finding == ABSENT) is elsewhere
    assert steps_of(judged("THR-06", _missed(NOW), START + 2 * HOUR, tracks=[replace(track, closed=True)]))


def test_alerts_beyond_the_pump_do_not_point_elsewhere() -> None:
    """THR-06: a temperature or a refill alert leaves the catheter suspect."""
    tracks = [episode(rule_id, (HIGH, NOW)) for rule_id in ("TMP-01", "REF-03", "THR-02", "COM-02")]

    assert steps_of(judged("THR-06", _missed(NOW), START + HOUR, tracks=tracks)) == [(MEDIUM, NOW)]


def _over(ended: timedelta | None, **fields: Any) -> Episode:
    track = episode("THR-06", (MEDIUM, -DAY), present=False)
    return replace(track, **{"closed": True, "ended_at": None if ended is None else START + ended, **fields})


@pytest.mark.parametrize(
    ("track", "reviews", "suspect"),
    [
        (_over(HOUR), (), False),
        (_over(HOUR - SECOND), (), True),
        (_over(HOUR, closed=False), (), True),
        (_over(HOUR, retracted=True), (), True),
        (_over(None), (), True),
        (None, ("PT1H",), False),
        (None, ("PT59M59S",), True),
        (None, ("PT30M", "PT1H"), False),
        (_over(HOUR), ("PT30M",), False),
        (_over(30 * MINUTE), ("PT1H",), False),
        (_over(30 * MINUTE), ("PT45M",), True),
    ],
)
def test_what_somebody_has_looked_into_opens_nothing_again(
    track: Episode | None, reviews: tuple[str, ...], suspect: bool
) -> None:
    """THR-06: up to the end of the last alert that stands, or the last review, whichever is later; inclusive."""
    finding = judged("THR-06", _missed(HOUR), START + 2 * HOUR, _reviewed(*reviews), [track] if track else [])

    assert steps_of(finding) == ([(MEDIUM, HOUR)] if suspect else [])


@pytest.mark.parametrize(
    ("reviews", "rule_id", "ended"),
    [
        (("PT1H",), "THR-06", ("PT1H", HOUR)),
        (("PT59M59S",), "THR-06", None),
        (("PT2H", "PT3H"), "THR-06", ("PT3H", 3 * HOUR)),
        (("PT2H",), "THR-03", None),
    ],
)
def test_a_review_ends_the_alert_in_the_name_of_its_person(
    reviews: tuple[str, ...], rule_id: str, ended: tuple[str, timedelta] | None
) -> None:
    """THR-06: the newest review of this rule, at its start or later."""
    track = episode("THR-06", (MEDIUM, HOUR))

    finding = judged("THR-06", _missed(HOUR), START + 4 * HOUR, _reviewed(*reviews, rule_id=rule_id), [track])

    assert finding.closed_by == (None if ended is None else f"person {ended[0]}")
    assert ended_of(finding) == (None if ended is None else START + ended[1])


@pytest.mark.parametrize(
    ("fields", "tracks"),
    [
        ({"stalled_since": START + HOUR}, []),
        ({"stopped_since": START + HOUR}, []),
        ({"telemetry_mode_since": START + HOUR}, []),
        ({}, [episode("DLV-03", (MEDIUM, HOUR))]),
        ({}, [episode("RSV-03", (LOW, -DAY), (MEDIUM, HOUR))]),
        ({}, [episode("MRI-02", (HIGH, NOW))]),
        ({}, [replace(episode("RSV-03", (HIGH, -DAY)), recurred_at=START + HOUR)]),
    ],
)
def test_a_pump_that_turns_out_not_to_have_been_normal_takes_the_alert_back(
    fields: dict[str, Any], tracks: list[Episode]
) -> None:
    """THR-06: whatever was wrong with it when the patient missed the effect, that moment included."""
    mine = episode("THR-06", (MEDIUM, HOUR))

    finding = judged("THR-06", _missed(HOUR, **fields), START + 2 * HOUR, tracks=[mine, *tracks])

    assert finding == Finding(Presence.ABSENT, retract=Reason.LATE_EVIDENCE)


@pytest.mark.parametrize(
    ("fields", "tracks"),
    [
        ({"stalled_since": START + HOUR + SECOND, "motor": "stalled"}, []),
        ({"stopped_since": START + HOUR + SECOND, "motor": "stopped"}, []),
        ({}, [episode("DLV-03", (LOW, NOW), (MEDIUM, HOUR + SECOND))]),
        ({}, [episode("DLV-03", (LOW, NOW))]),
        ({}, [replace(episode("RSV-03", (HIGH, -DAY)), recurred_at=START + HOUR + SECOND)]),
        ({}, [replace(episode("RSV-03", (LOW, -DAY), (HIGH, 2 * HOUR)), recurred_at=START)]),
        ({}, [replace(episode("DLV-03", (HIGH, NOW)), closed=True)]),
        ({"dosing": DosingLog(occluded_at=START + HOUR), "stalled_since": START}, []),
    ],
)
def test_what_went_wrong_later_leaves_the_alert_open(fields: dict[str, Any], tracks: list[Episode]) -> None:
    """THR-06: a second later is later, a LOW alert is no word on the pump, and its own alarm outweighs all."""
    mine = episode("THR-06", (MEDIUM, HOUR))

    finding = judged("THR-06", _missed(HOUR, **fields), START + 3 * HOUR, tracks=[mine, *tracks])

    assert steps_of(finding) == [(MEDIUM, HOUR)]


def test_an_alarm_of_before_the_alert_does_not_outweigh_what_was_wrong() -> None:
    """THR-06: only one heard since its start does; and an alert that is not present is not taken back."""
    state = _missed(HOUR, dosing=DosingLog(occluded_at=START + HOUR - SECOND), stalled_since=START)
    mine = episode("THR-06", (MEDIUM, HOUR))

    taken_back = Finding(Presence.ABSENT, retract=Reason.LATE_EVIDENCE)
    assert judged("THR-06", state, START + 2 * HOUR, tracks=[mine]) == taken_back
    assert judged("THR-06", state, START + 2 * HOUR, tracks=[replace(mine, present=False)]).retract is None


def test_the_pump_s_own_alarm_is_high_since_it_was_told() -> None:
    """THR-06: whatever else is known of the pump, beside a missed effect of before."""
    told: dict[str, Any] = {"alarms": (Alarm.CATHETER_OCCLUSION,), "alarms_at": START + HOUR}

    alone = judged("THR-06", PumpState(**told), START + 2 * HOUR)
    stalled = judged("THR-06", _missed(NOW, motor="stalled", **told), START + 2 * HOUR)
    unknown = judged("THR-06", _missed(NOW, fills=FillLog(), **told), START + 2 * HOUR)
    missed = judged("THR-06", _missed(NOW, **told), START + 2 * HOUR)

    assert steps_of(alone) == steps_of(stalled) == steps_of(unknown) == [(HIGH, HOUR)]
    assert steps_of(missed) == [(MEDIUM, NOW), (HIGH, HOUR)]


@pytest.mark.parametrize(
    ("sign", "after", "steps"),
    [
        ("itching", -72 * HOUR, [(HIGH, HOUR)]),
        ("itching", -72 * HOUR - SECOND, [(MEDIUM, HOUR)]),
        ("fever", HOUR, [(MEDIUM, HOUR), (HIGH, 2 * HOUR)]),
        ("rigidity", NOW, [(HIGH, HOUR)]),
        ("confusion", NOW, [(MEDIUM, HOUR)]),
    ],
)
def test_signs_of_withdrawal_around_a_missed_effect_are_high(
    sign: str, after: timedelta, steps: list[tuple[Priority, timedelta]]
) -> None:
    """THR-06 on ``W3+1``: up to 72 hours before (inclusive) or any time after, never earlier than the alert."""
    state = _missed(HOUR)
    state = replace(state, symptoms=(*state.symptoms, Symptoms(START + HOUR + after, (sign,))))

    assert steps_of(judged("THR-06", state, START + 4 * HOUR)) == steps
    assert steps_of(judged("THR-06", state, START + 4 * HOUR, profiles_of(MORPHINE))) == [(MEDIUM, HOUR)]


def test_the_first_sign_of_withdrawal_counts() -> None:
    """THR-06: of two after the missed effect the earlier."""
    signs = (Symptoms(START + 2 * HOUR, ("fever",)), Symptoms(START + 3 * HOUR, ("itching",)))
    state = _missed(HOUR)

    finding = judged("THR-06", replace(state, symptoms=(*state.symptoms, *signs)), START + 4 * HOUR)

    assert steps_of(finding) == [(MEDIUM, HOUR), (HIGH, 2 * HOUR)]


def _raised(*ug: float) -> DosingLog:
    """All boluses used on three days up to the start, and daily doses ten days apart up to the start."""
    known = profiles_of({**MORPHINE, "bolus_max_per_day": 2}).therapy(START)
    days = tuple(Use(site_day(known, START - day * DAY), 2, 0.02) for day in (2, 1, 0))
    doses = tuple(Dose(START - 10 * index * DAY, dose) for index, dose in reversed(list(enumerate(reversed(ug)))))
    boluses = BolusLog(delivered=(Bolus(START, 0.01, START),), days=days)
    return DosingLog(boluses=boluses, history=DoseHistory("morphine", START, doses))


@pytest.mark.parametrize(
    ("doses", "suspect"), [((100.0, 110.0, 121.0), True), ((100.0, 110.0), False), ((100.0, 100.0, 110.0), False)]
)
def test_used_up_boluses_need_two_increases(doses: tuple[float, ...], suspect: bool) -> None:
    """THR-06: with fewer increases in 60 days they are no sign of the catheter."""
    known = profiles_of({**MORPHINE, "bolus_max_per_day": 2})

    finding = judged("THR-06", _missed(dosing=_raised(*doses)), START, known)

    assert steps_of(finding) == ([(MEDIUM, NOW)] if suspect else [])


# THR-07 ----------------------------------------------------------------------------------------------------------


def _complains(
    *codes: str,
    at: timedelta = HOUR,
    told: timedelta | None = None,
    heard: timedelta | None = None,
    now: timedelta = HOUR,
    known: ProfileHistory = BACLOFEN,
    tracks: Iterable[Episode] = (),
    **fields: Any,
) -> Finding:
    """THR-07's finding ``now`` of a report of ``at``, told then or later; the pump's last report came at ``heard``."""
    complaint = Complaint(START + at, START + (at if told is None else told), codes)
    heard_at = None if heard is None else START + heard
    state = PumpState(dosing=DosingLog(complaint=complaint), reported_at=heard_at, **fields)
    return judged("THR-07", state, START + now, known, tracks)


@pytest.mark.parametrize("code", ["itching", "rigidity", "fever", "confusion"])
def test_each_sign_of_withdrawal_is_medium(code: str) -> None:
    """THR-07: while drug arrives; the alert is as old as the report, and says so."""
    finding = _complains(code, now=2 * HOUR)

    assert steps_of(finding) == [(MEDIUM, HOUR)]
    assert finding.values == {"since": "2026-11-02 01:00 UTC"}
    assert finding.start_step == 0
    assert finding.parents == ()


@pytest.mark.parametrize("code", ["sleepy", "slow_breathing", "floppy", "cold"])
def test_each_sign_of_an_overdose_is_high(code: str) -> None:
    """THR-07: for every drug, from the ladder's start."""
    finding = _complains(code, known=profiles_of(MORPHINE))

    assert steps_of(finding) == [(HIGH, HOUR)]
    assert finding.start_step == 0


def test_a_symptom_of_neither_kind_or_none_at_all_opens_nothing() -> None:
    """THR-07: such a report leaves other rules to it."""
    assert _complains("pain_increase") == ABSENT
    assert judged("THR-07", PumpState(), START) == NOT_EVALUABLE


@pytest.mark.parametrize(
    ("tracks", "fields", "priority"),
    [
        ([], {"armed_since": START}, HIGH),
        ([episode("DLV-01", (MEDIUM, NOW))], {}, HIGH),
        ([episode("DLV-09", (HIGH, NOW))], {}, HIGH),
        ([episode("RSV-02", (MEDIUM, NOW))], {}, HIGH),
        ([episode("MRI-02", (MEDIUM, NOW))], {}, HIGH),
        ([episode("MRI-06", (MEDIUM, NOW))], {}, HIGH),
        ([episode("MRI-01", (MEDIUM, NOW))], {}, MEDIUM),
        ([episode("RSV-01", (HIGH, NOW))], {}, MEDIUM),
        ([episode("DLV-01", (LOW, NOW))], {}, MEDIUM),
        ([replace(episode("DLV-01", (HIGH, NOW)), closed=True)], {}, MEDIUM),
    ],
)
def test_withdrawal_is_high_while_delivery_is_uncertain(
    tracks: list[Episode], fields: dict[str, Any], priority: Priority
) -> None:
    """THR-07 on W3, by an armed clock or an open delivery alert (M.5); on an opioid it stays MEDIUM."""
    assert steps_of(_complains("itching", tracks=tracks, **fields)) == [(priority, HOUR)]
    assert steps_of(_complains("itching", tracks=tracks, known=profiles_of(MORPHINE), **fields)) == [(MEDIUM, HOUR)]


@pytest.mark.parametrize(
    ("replaced", "watched"),
    [(HOUR, True), (HOUR + SECOND, False), (-47 * HOUR, True), (-47 * HOUR - SECOND, False)],
)
@pytest.mark.parametrize("by_person", [True, False])
def test_a_replacement_is_watched_for_two_days(replaced: timedelta, watched: bool, by_person: bool) -> None:
    """THR-07: told by the pump or by a person, both ends inclusive; an overdose starts at the second step."""
    record = {"kind": "replaced", "from": replaced}
    known = profiles_of({}, care=[record] if by_person else [])
    fields: dict[str, Any] = {} if by_person else {"replaced_at": START + replaced}

    other = _complains("pain_increase", now=2 * HOUR, known=known, **fields)
    overdose = _complains("sleepy", now=2 * HOUR, known=known, **fields)

    assert steps_of(other) == ([(HIGH, HOUR)] if watched else [])
    assert overdose.start_step == (2 if watched else 0)


@pytest.mark.parametrize("rule_id", ["REF-01", "REF-04"])
@pytest.mark.parametrize(
    ("incident", "watched"), [(HOUR, True), (HOUR + SECOND, False), (-23 * HOUR, True), (-23 * HOUR - SECOND, False)]
)
def test_a_refill_or_restart_is_watched_for_a_day(rule_id: str, incident: timedelta, watched: bool) -> None:
    """THR-07: each of its incidents, both ends inclusive, also when the alert is closed; not one taken back."""
    track = replace(episode(rule_id, (HIGH, -9 * DAY)), reminders=(START + incident,), closed=True)

    found, retracted = (
        steps_of(_complains("pain_increase", tracks=[one])) for one in (track, replace(track, retracted=True))
    )

    assert found == ([(HIGH, HOUR)] if watched else [])
    assert retracted == []


@pytest.mark.parametrize(
    ("heard", "holds"), [(None, True), (75 * MINUTE - SECOND, True), (75 * MINUTE, False), (2 * HOUR, False)]
)
def test_a_report_of_symptoms_holds_until_the_pump_reports_a_quarter_of_an_hour_later(
    heard: timedelta | None, holds: bool
) -> None:
    """THR-07: counted from when it was told; then the alert has ended, and no new one opens."""
    track = episode("THR-07", (HIGH, 30 * MINUTE))

    fresh = _complains("sleepy", at=30 * MINUTE, told=HOUR, heard=heard, now=3 * HOUR)
    known = _complains("sleepy", at=30 * MINUTE, told=HOUR, heard=heard, now=3 * HOUR, tracks=[track])

    assert fresh.presence is (Presence.PRESENT if holds else Presence.ABSENT)
    assert steps_of(known) == ([(HIGH, 30 * MINUTE)] if holds else [])
    assert ended_of(known) == (None if holds or heard is None else START + heard)


@pytest.mark.parametrize(
    ("heard", "finding"),
    [
        (3 * HOUR + 15 * MINUTE - SECOND, NOT_EVALUABLE),
        (3 * HOUR + 15 * MINUTE, Finding(Presence.ABSENT, ended_at=START + 3 * HOUR + 15 * MINUTE)),
    ],
)
@pytest.mark.parametrize("codes", [("itching",), ("pain_increase",)])
def test_an_alert_that_got_worse_holds_from_then_on(codes: tuple[str, ...], heard: timedelta, finding: Finding) -> None:
    """THR-07: its last step came two hours after the report."""
    track = episode("THR-07", (MEDIUM, HOUR), (HIGH, 3 * HOUR))

    assert _complains(*codes, heard=heard, now=4 * HOUR, tracks=[track]) == finding
    assert _complains(*codes, heard=heard, now=4 * HOUR, tracks=[replace(track, present=False)]) == ABSENT


@pytest.mark.parametrize(
    ("after", "track", "steps"),
    [
        (25 * HOUR, episode("THR-07", (MEDIUM, HOUR)), [(HIGH, 25 * HOUR)]),
        (25 * HOUR + SECOND, episode("THR-07", (MEDIUM, HOUR)), []),
        (3 * HOUR, episode("THR-07", (MEDIUM, NOW)), [(HIGH, HOUR)]),
        (3 * HOUR, episode("THR-07", (HIGH, HOUR)), []),
        (3 * HOUR, None, []),
    ],
)
def test_a_report_becomes_worse_within_a_day(
    after: timedelta, track: Episode | None, steps: list[tuple[Priority, timedelta]]
) -> None:
    """THR-07: delivery became uncertain up to 24 h after it; what was reported since the alert is as old as itself."""
    finding = _complains(
        "itching", heard=2 * HOUR, now=after, armed_since=START + 2 * HOUR, tracks=[track] if track else []
    )

    assert steps_of(finding) == steps


@pytest.mark.parametrize(
    ("codes", "present", "now", "told_again"),
    [
        (("sleepy",), True, 2 * HOUR, True),
        (("sleepy",), False, 2 * HOUR, True),
        (("sleepy",), True, 2 * HOUR + SECOND, False),
        (("itching",), True, 2 * HOUR, False),
        (("itching",), False, 2 * HOUR, True),
    ],
)
def test_a_further_report_is_told_again(
    codes: tuple[str, ...], present: bool, now: timedelta, told_again: bool
) -> None:
    """THR-07: when it is told; one of an overdose always, any other while the alert waits for a person."""
    track = replace(episode("THR-07", (HIGH, NOW), present=present), reminders=(START + MINUTE,))

    finding = _complains(*codes, at=HOUR, told=2 * HOUR, now=now, tracks=[track])

    assert finding.reminders == (START + MINUTE, START + HOUR)[: 2 if told_again else 1]


@pytest.mark.parametrize(("priority", "parents"), [(HIGH, ("THR-06",)), (MEDIUM, ())])
def test_symptoms_go_under_a_suspected_catheter_while_that_is_high(
    priority: Priority, parents: tuple[str, ...]
) -> None:
    """THR-07 under THR-06."""
    assert _complains("itching", tracks=[episode("THR-06", (priority, NOW))]).parents == parents
