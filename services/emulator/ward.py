"""Plays a scenario: every pump lives and reports, in the order of time, without a clock of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final
from zlib import crc32

from services.emulator import physics
from services.emulator.physics import Build, Document, Pump
from services.emulator.scenario import Act, ActKind, PumpPlan, Scenario, low_limit_ml, profile_of, pump_id

REFILL_AHEAD_DAYS = 18
"""A pump without a story is refilled this long before it would be low by its program: before RSV-03 asks for a date."""
IMPLANTED_DAYS = (200, 1_600)


@dataclass(frozen=True, slots=True)
class Emission:
    """A report on its way to a gateway: when the pump said it, through which gateway, and what (no gateway fields)."""

    at: datetime
    gateway: str
    document: Document


def stamped(document: Document, gateway_id: str, gateway_time: datetime) -> dict[str, Any]:
    """The report in its full wire form."""
    return {**document, "gateway_id": gateway_id, "gateway_time": gateway_time.isoformat(timespec="milliseconds")}


def play(scenario: Scenario, start: datetime, seed: int, run: int | None = None) -> Iterator[Emission]:
    """All reports of a scenario, oldest first, without end.

    Args:
        scenario: What happens.
        start: Offset zero; whole seconds of it are the pumps' boot id, so that a later start is a later boot.
        seed: Where chance comes from; the same arguments always play the same.
        run: Names the renewed pumps; ``start`` in seconds when left out.
    """
    boot_id = int(start.timestamp())
    lives = [
        _Life(scenario, plan, number, start, seed, boot_id, boot_id if run is None else run)
        for plan in scenario.pumps
        for number in range(plan.count)
    ]
    queue = [(life.next_at, index) for index, life in enumerate(lives)]
    heapq.heapify(queue)
    while True:
        at, index = heapq.heappop(queue)
        life = lives[index]
        yield Emission(at, life.plan.gateway, life.report())
        heapq.heappush(queue, (life.next_at, index))


class _Life:
    """One pump's life: its reports at regular times, its story between them."""

    def __init__(
        self, scenario: Scenario, plan: PumpPlan, number: int, start: datetime, seed: int, boot_id: int, run: int
    ) -> None:
        identity = pump_id(scenario, plan, number, run)
        # What makes this pump different from others is the same in each run; the noise is the seed's.
        character = Random(f"{scenario.name}/{plan.name}/{number}")
        self.plan, self._start = plan, start
        self._chance = Random(f"{seed}/{identity}")
        self._acts = list(plan.story)
        first = start + plan.history.since if plan.history else start + plan.report_every * character.random()
        self.next_at = first
        self._full_ml = 0.9 * profile_of(scenario, plan).reservoir_ml
        ahead_ml = REFILL_AHEAD_DAYS * plan.flow_ml_per_day
        self._refill_at_ml = min(low_limit_ml(scenario, plan) + ahead_ml, 0.8 * self._full_ml)
        self._pump = self._born(scenario, plan, identity, boot_id, first, character)

    def _born(
        self, scenario: Scenario, plan: PumpPlan, identity: str, boot_id: int, first: datetime, character: Random
    ) -> Pump:
        flow = plan.flow_ml_per_day
        build = Build(
            pump_id=identity,
            boot_id=boot_id,
            flow_ml_per_day=flow,
            reservoir_ml=profile_of(scenario, plan).reservoir_ml,
            accuracy=plan.accuracy,
            low_alarm_ml=min(2.0, low_limit_ml(scenario, plan)),
            detection=plan.detection,
            senses_volume=plan.senses_volume,
            tells_motor=plan.tells_motor,
            implanted_at=self._start - timedelta(days=character.randint(*IMPLANTED_DAYS)),
            rhythm_hours=character.uniform(-1, 1),
            family=profile_of(scenario, plan).family.value,
        )
        level = plan.level_ml
        if plan.low_at is not None:
            # Half a unit of the last reported digit above the limit still counts as the limit.
            days = (self._start + plan.low_at - first) / physics.DAY
            level = low_limit_ml(scenario, plan) + 0.499 * 10**-physics.PROTOCOL_DECIMALS + flow * days
        if level is None:
            level = physics.usual_level(first, self._full_ml, self._refill_at_ml, flow, character.random())
        return physics.new_pump(build, first, level)

    def report(self) -> Document:
        """What the pump says at `next_at`; afterwards that lies one period later."""
        at, plan = self.next_at, self.plan
        while self._acts and self._start + self._acts[0].at <= at:
            act = self._acts.pop(0)
            self._pump = self._acted(act, self._start + act.at)
        self._pump = physics.advance(self._pump, at)
        if plan.level_ml is None and plan.low_at is None and self._pump.reservoir_estimated_ml <= self._refill_at_ml:
            self._pump = physics.refill(self._pump, at, self._full_ml)
        self._pump, document = physics.tell(self._pump, self._chance)
        past = plan.history is not None and at < self._start
        self.next_at = at + (plan.history.every if plan.history and past else plan.report_every)
        if past and self.next_at > self._start:
            self.next_at = self._start
        return document

    def _acted(self, act: Act, at: datetime) -> Pump:
        pump = self._pump
        match act.act:
            case ActKind.MRI_ENTER:
                return physics.enter_mri(pump, at, act.declared_by)
            case ActKind.MRI_LEAVE:
                return physics.leave_mri(pump, at, act.declared_by, self._chance, act.recovers_after)
            case ActKind.REFILL:
                into_pocket_ml = act.into_pocket_ml or 0.0
                return physics.refill(pump, at, act.injected_ml or self._full_ml, into_pocket_ml=into_pocket_ml)
            case ActKind.RESET:
                return physics.reset(pump, at, default_program=True)
            case _:
                plain = _PLAIN.get(act.act)
                return plain(pump, at) if plain is not None else _clinic_did(pump, act, at) or _suffered(pump, act, at)


_PLAIN: Final[Mapping[ActKind, Callable[[Pump, datetime], Pump]]] = {
    ActKind.STALL: physics.stall,
    ActKind.RECOVER: physics.recover,
    ActKind.STOP: physics.stop,
    ActKind.START: physics.start,
    ActKind.INTERROGATE: physics.interrogate,
    ActKind.MEND: physics.mended,
    ActKind.TRAP: physics.trap,
    ActKind.VALVE_RESET: physics.reset_valve,
}
"""Acts that need nothing but the pump and the moment."""


def _clinic_did(pump: Pump, act: Act, at: datetime) -> Pump | None:
    """What people at a clinic do to a pump; None for any other act."""
    match act.act:
        case ActKind.SESSION:
            return physics.in_session(pump, at, act.session_id or "", act.phase or "start")
        case ActKind.REPROGRAM:
            steps = tuple(sorted((since.total_seconds(), rate) for since, rate in (act.rates or {}).items()))
            # The same program has the same checksum.
            program = physics.Program(f"{crc32(repr(steps).encode()):08x}", steps)
            return physics.reprogram(pump, at, program, act.session_id)
        case ActKind.SCHEDULE_MRI:
            return physics.schedule_mri(pump, at, at + (act.due_in or timedelta(0)))
        case ActKind.REPLACE:
            return physics.replaced(pump, at, act.injected_ml or 0.0)
        case _:
            return None


def _suffered(pump: Pump, act: Act, at: datetime) -> Pump:
    """What its user or a fault does to a pump; the scenario has checked that the act has what it needs."""
    match act.act:
        case ActKind.BOLUS:
            return physics.bolus(pump, at, act.volume_ml or 0.0)
        case ActKind.SYMPTOMS:
            return physics.report_symptoms(pump, at, *(act.codes or ()))
        case ActKind.FAIL:
            return physics.fail(pump, at, *(act.codes or ()))
        case ActKind.BIAS:
            return physics.bias(pump, at, act.factor if act.factor is not None else 1.0)
        case ActKind.DUMP:
            return physics.dump(pump, at, act.volume_ml or 0.0)
        case ActKind.LEAK:
            return physics.leak(pump, at, act.lost_share or 0.0)
        case ActKind.INTERFERE:
            return physics.interfere(pump, at, act.level or "weak", act.count or 1)
        case _:
            return physics.warm(pump, at, act.celsius or 0.0, at + (act.lasts or timedelta(0)))
