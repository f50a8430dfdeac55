"""The demo's storylines, through the production engine with a virtual clock: these alerts, and no others."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
import pytest

from services.emulator import ward
from services.emulator.scenario import Scenario, load, profile_documents
from streams import rulebook, settings
from streams.domain import pipeline
from streams.domain.alert import AlertEvent
from streams.domain.profile import ProfileHistory, PumpProfile, profile_from
from streams.domain.silence import Hearing
from streams.domain.telemetry import Received, Report, validate
from streams.domain.world import World

pytestmark = pytest.mark.xdist_group("demo")
"""The twenty minutes are lived once, and all of these tests look at them."""
START = datetime(2026, 11, 2, 12, 0, 0, 250_000, tzinfo=UTC)
RULES = rulebook.load(settings.RULES)
DEMO = load("demo")
SECOND = timedelta(seconds=1)
BACKLOG_AGE = timedelta(minutes=15)
LIMIT = timedelta(minutes=2)

Told = tuple[float, str, str, str]
"""Seconds since the start, kind of event, rule, priority."""


@dataclass
class Service:
    """Pumpwatch in a nutshell: worlds, profiles, and what was told of which pump."""

    worlds: dict[str, World] = field(default_factory=dict)
    profiles: dict[str, ProfileHistory] = field(default_factory=dict)
    told: list[tuple[datetime, str, AlertEvent]] = field(default_factory=list)

    def know(self, scenario: Scenario, start: datetime) -> None:
        """Import the scenario's profiles."""
        versions: dict[str, list[PumpProfile]] = {}
        for document in profile_documents(scenario, int(start.timestamp())):
            profile = profile_from(document)
            assert isinstance(profile, PumpProfile), profile
            versions.setdefault(profile.pump_id, []).append(profile)
        self.profiles |= {pump_id: ProfileHistory(tuple(given)) for pump_id, given in versions.items()}

    def live(self, arrivals: Iterator[Received], since: datetime, until: datetime) -> None:
        """Take reports as they arrive, and look at every deadline in between."""
        for received in arrivals:
            if received.received_at > until:
                break
            pump_id = received.report.pump_id
            world = self.worlds.get(pump_id) or pipeline.new_world(pump_id)
            world = self._passed(world, since, received.received_at)
            step = pipeline.step(world, received, self.profiles[pump_id], RULES, received.received_at)
            self._note(step, received.received_at)
        for world in list(self.worlds.values()):
            self._passed(world, since, until)

    def _passed(self, world: World, since: datetime, until: datetime) -> World:
        while world.next_wake_at is not None and world.next_wake_at <= until:
            now = max(world.next_wake_at, since)
            step = pipeline.tick(world, self.profiles[world.pump_id], RULES, now, Hearing(since, now))
            self._note(step, now)
            world = step.world
        return world

    def _note(self, step: pipeline.Step, now: datetime) -> None:
        self.worlds[step.world.pump_id] = step.world
        self.told.extend((now, step.world.pump_id, event) for event in step.events)

    def by_story(self, start: datetime) -> dict[str, list[Told]]:
        """What was told of each renewed pump of the run that began at ``start``."""
        tail, stories = f"-{int(start.timestamp()):x}", dict[str, list[Told]]()
        for now, pump_id, event in self.told:
            if pump_id.endswith(tail):
                line = ((now - start) / SECOND, event.kind, event.alert.rule_id, event.alert.priority)
                stories.setdefault(pump_id.removeprefix("demo-").removesuffix(tail), []).append(line)
        return stories


def arrivals(
    start: datetime, until: datetime, *, untidy: int | None = None, scenario: Scenario = DEMO
) -> Iterator[Received]:
    """A scenario's reports as ingest gets them: history at the start, and what a lost link held back when it is back.

    Args:
        start: Of the run.
        until: How far the pumps live.
        untidy: A seed; then gateways that may change the order deliver up to three seconds late, all deliver some
            twice, and old reports without an alarm take the backlog's way, so they arrive after fresh ones.
        scenario: The demo when left out.
    """
    plans = {gateway.name: gateway for gateway in scenario.gateways}
    chance = Random(untidy)
    queue: list[tuple[datetime, int, Report]] = []
    played = itertools.takewhile(lambda emission: emission.at <= until, ward.play(scenario, start, seed=1))
    for number, emission in enumerate(played):
        at = max(emission.at, start)
        plan = plans[emission.gateway]
        for outage in plan.outages:
            if start + outage.lost <= at < start + (outage.back or timedelta.max):
                at = start + (outage.back or timedelta(days=999))
        report = validate(msgspec.json.encode(ward.stamped(emission.document, "GW", emission.at)), at)
        assert isinstance(report, Report), report
        queue.append((at, number, report))
        if untidy is not None:
            late = chance.random() * 3 * SECOND if plan.reordered_share else timedelta(0)
            queue[-1] = (at + late, number, report)
            if start - emission.at > BACKLOG_AGE and not report.alarms:
                queue[-1] = (at + 20 * SECOND + chance.random() * SECOND, number, report)
            if chance.random() < 0.2:
                queue.append((queue[-1][0] + chance.random() * 3 * SECOND, number, report))
    heapq.heapify(queue)
    while queue:
        at, _, report = heapq.heappop(queue)
        yield Received(report=report, received_at=at)


@pytest.fixture(scope="module")
def stories() -> dict[str, list[Told]]:
    """The first twenty minutes of a demo, everything in order."""
    service, until = Service(), START + timedelta(minutes=20)
    service.know(DEMO, START)
    service.live(arrivals(START, until), START, until)
    return service.by_story(START)


def test_a_stall_opens_at_once_and_waits_for_a_person_after_it_ended(stories: dict[str, list[Told]]) -> None:
    """DLV-01: HIGH with the first report after the stall; cleared ten minutes later, and nothing closes it."""
    assert stories["stall"] == [(10.0, "opened", "DLV-01", "high"), (600.0, "cleared", "DLV-01", "high")]


def test_a_reservoir_that_reaches_its_limit_opens_on_the_second_report(stories: dict[str, list[Told]]) -> None:
    """RSV-01."""
    assert stories["low"] == [(35.0, "opened", "RSV-01", "medium")]


def test_an_mri_that_recovers_pages_nobody(stories: dict[str, list[Told]]) -> None:
    """MRI-01 is INFO, which has no ladder, and it closes by itself."""
    assert stories["mri-recovers"] == [(0.0, "opened", "MRI-01", "info"), (40.0, "cleared", "MRI-01", "info")]


def test_an_mri_that_does_not_recover_pages_at_its_deadline(stories: dict[str, list[Told]]) -> None:
    """MRI-02: nothing until 90 minutes after the start of the scan, which is one minute after the demo's; then HIGH."""
    assert stories["mri-overdue"] == [
        (0.0, "opened", "MRI-01", "info"),
        (60.0, "opened", "MRI-02", "high"),
        (60.0, "opened", "DLV-09", "high"),
        (480.0, "cleared", "MRI-01", "info"),
        (480.0, "cleared", "MRI-02", "high"),
        (480.0, "cleared", "DLV-09", "high"),
    ]


def test_a_silent_gateway_is_noticed_and_heard_again(stories: dict[str, list[Told]]) -> None:
    """COM-01 within a minute and a half: INFO, and MEDIUM where the motor's state is not known; a message ends it."""
    for pump, priority in (("away", "info"), ("away-unsure", "medium")):
        (opened_at, *opened), cleared = stories[pump]
        assert opened == ["opened", "COM-01", priority]
        assert 50 < opened_at <= 60
        assert cleared == (600.0, "cleared", "COM-01", priority)


def test_nothing_else_happens_and_all_of_it_within_two_minutes(stories: dict[str, list[Told]]) -> None:
    """No other pump is the subject of any alert."""
    opened = [told[0] for story in stories.values() for told in story if told[1] == "opened"]

    assert set(stories) == {"stall", "low", "mri-recovers", "mri-overdue", "away", "away-unsure"}
    assert max(opened) <= LIMIT / SECOND


def test_the_page_without_recovery_is_one_page() -> None:
    """The non-delivery clock runs out at the same moment; it opens under the MRI's alert."""
    service = Service()
    service.know(DEMO, START)
    service.live(arrivals(START, START + LIMIT), START, START + LIMIT)

    opened = {event.alert.rule_id: event.alert for _, pump, event in service.told if "overdue" in pump}

    assert opened["DLV-09"].parent_id == opened["MRI-02"].alert_id
    assert opened["MRI-02"].parent_id is None


@pytest.mark.parametrize("seed", range(6))
def test_untidy_gateways_change_nothing_in_the_story(seed: int, stories: dict[str, list[Told]]) -> None:
    """Late, doubled, out of order, through the backlog: the same rules open for the same pumps, none in vain."""
    service, until = Service(), START + LIMIT
    service.know(DEMO, START)

    service.live(arrivals(START, until + 30 * SECOND, untidy=seed), START, until + 30 * SECOND)

    told = service.by_story(START)
    kinds = {event.kind for _, _, event in service.told}
    for pump, story in stories.items():
        expected = {(rule, priority) for at, kind, rule, priority in story if kind == "opened"}
        assert {(rule, priority) for _, kind, rule, priority in told[pump] if kind == "opened"} == expected, pump
    assert "retracted" not in kinds
    assert set(told) == set(stories)


@pytest.mark.parametrize("gap", [timedelta(minutes=3), timedelta(hours=30)])
def test_a_second_run_on_the_same_data_tells_the_story_again(gap: timedelta, stories: dict[str, list[Told]]) -> None:
    """Stopped after two minutes and started later: the first alert within 10 s, while lasting pumps stay quiet."""
    service, again = Service(), START + gap
    service.know(DEMO, START)
    service.live(arrivals(START, START + LIMIT), START, START + LIMIT)
    before = len(service.told)
    service.know(DEMO, again)

    service.live(arrivals(again, again + 20 * timedelta(minutes=1)), again, again + timedelta(minutes=20))

    assert service.by_story(again) == stories
    # What a step tells of one alert counts as it ends: opened and escalated in one look is one matter.
    raised = {
        event.alert.alert_id: event.alert.parent_id
        for _, pump, event in service.told[before:]
        if event.raises and not pump.endswith(suffix(again))
    }
    assert all(parent_id is not None for parent_id in raised.values())


def suffix(start: datetime) -> str:
    """What ends the ids of a run's renewed pumps."""
    return f"-{int(start.timestamp()):x}"


def test_the_pumps_of_a_finished_run_fall_into_no_silence() -> None:
    """A day without a word: their profiles expect visits only, so nobody is paged for a demo that was stopped."""
    service, later = Service(), START + timedelta(days=1)
    service.know(DEMO, START)
    service.live(arrivals(START, START + LIMIT), START, START + LIMIT)
    before = len(service.told)

    service.live(iter(()), START + LIMIT, later)

    renewed = {
        event.alert.alert_id: event.alert for _, pump, event in service.told[before:] if pump.endswith(suffix(START))
    }
    assert {alert.rule_id for alert in renewed.values()} <= {"DLV-02", "DLV-09", "MRI-03"}
    assert all(alert.parent_id is not None for alert in renewed.values())


def test_the_quiet_scenario_is_quiet() -> None:
    """Hours without any alert, and again after a day on which everything was off."""
    service, quiet, hours = Service(), load("quiet"), timedelta(hours=3)
    for start in (START, START + timedelta(days=1)):
        service.know(quiet, start)
        service.live(arrivals(start, start + hours, scenario=quiet), start, start + hours)

    assert len(service.worlds) == 8
    assert service.told == []


def test_a_play_is_the_same_each_time_and_in_order() -> None:
    """Deterministic by start and seed; ordered by time; each pump's reports numbered from 0 without a gap."""
    first, second = (list(itertools.islice(ward.play(DEMO, START, seed=3), 2_000)) for _ in range(2))
    other = list(itertools.islice(ward.play(DEMO, START, seed=4), 2_000))

    assert first == second
    assert [emission.at for emission in first] == sorted(emission.at for emission in first)
    assert [emission.document for emission in first] != [emission.document for emission in other]
    numbers: dict[str, list[int]] = {}
    for emission in first:
        numbers.setdefault(emission.document["pump_id"], []).append(emission.document["seq"])
    assert all(seqs == list(range(len(seqs))) for seqs in numbers.values())
    assert {emission.document["boot_id"] for emission in first} == {int(START.timestamp())}


def test_a_pump_without_a_story_is_refilled_before_it_is_low() -> None:
    """Years of background without an alert, and each refill is told."""
    quiet = load("quiet").model_copy(
        update={"pumps": tuple(p.model_copy(update={"report_every": timedelta(hours=8)}) for p in load("quiet").pumps)}
    )
    until = START + timedelta(days=120)

    reports = [e.document for e in itertools.takewhile(lambda e: e.at < until, ward.play(quiet, START, seed=1))]

    refills = [event for report in reports for event in report.get("events", [])]
    assert len(refills) > 8
    assert {event["type"] for event in refills} == {"refill"}
    assert all(report["alarms"] == [] for report in reports)
    assert min(report["reservoir_estimated_ml"] for report in reports) > 2.5
