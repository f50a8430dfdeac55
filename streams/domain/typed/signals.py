"""The words of typed conditions: names of signals, limits, durations, and what an event must say."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Protocol, Self, get_args

from pydantic import ConfigDict, Field, PlainValidator, StrictBool, StrictFloat, StrictInt, StrictStr, WithJsonSchema

from streams.domain.memory import Fact, Memory
from streams.domain.profile import Therapy
from streams.domain.rule import View
from streams.domain.telemetry import (
    EmiLevel,
    Event,
    EventType,
    FlowValve,
    InterrogationResult,
    Motor,
    Report,
    Symptom,
    event_fields,
)
from streams.domain.typed.truth import Truth

CLOSED: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
REPORT: Final = "report"
"""What every report carries, whatever else it says."""
SHORTEST_KEEP: Final = timedelta(hours=1)
LONGEST: Final = timedelta(days=366)
_DURATION: Final = re.compile(r"P(?!$)(?:(\d+)W)?(?:(\d+)D)?(?:T(?!$)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


def duration(value: object) -> timedelta:
    """Read an ISO 8601 duration in weeks, days, hours, minutes and seconds; more than zero, at most `LONGEST`.

    Raises:
        ValueError: If it is anything else.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) < 40 else None
    if match is None:
        raise ValueError("expected an ISO 8601 duration such as PT30M, PT12H or P2D")
    weeks, days, hours, minutes, seconds = (min(int(part or 0), 10**8) for part in match.groups())
    found = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta(0) < found <= LONGEST:
        raise ValueError("expected a duration above zero and of 366 days at most")
    return found


Duration = Annotated[
    timedelta, PlainValidator(duration), WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"})
]
Number = Annotated[float, Field(strict=True)]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number by its name among the rule's ``parameters``: another for some drugs, families, risks and patients."""

    name: str


def limit_number(value: object) -> float | Parameter:
    """Read a limit's number, or the name of the parameter that is its number.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(value, Parameter):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, dict) and value.keys() == {"parameter"} and isinstance(value["parameter"], str):
        return Parameter(value["parameter"])
    raise ValueError("expected a finite number, or {parameter: NAME} with one of the rule's parameters")


_PARAMETER_SCHEMA: Final = {
    "type": "object",
    "properties": {"parameter": {"type": "string"}},
    "required": ["parameter"],
    "additionalProperties": False,
}
LimitNumber = Annotated[
    float | Parameter, PlainValidator(limit_number), WithJsonSchema({"anyOf": [{"type": "number"}, _PARAMETER_SCHEMA]})
]
CumulativeSignal = Literal["volume_programmed_ml", "volume_delivered_ml"]
LevelSignal = Literal["reservoir_estimated_ml", "reservoir_measured_ml"]
NumberSignal = Literal[
    "reservoir_estimated_ml",
    "reservoir_measured_ml",
    "flow_programmed_ml_per_day",
    "volume_programmed_ml",
    "volume_delivered_ml",
    "temperature_celsius",
    "battery.voltage_v",
    "emi.count",
]
WordSignal = Literal["motor", "flow_valve", "emi.level", "battery.eri", "battery.eos"]
AnySignal = Literal[
    "motor",
    "alarms",
    "reservoir_estimated_ml",
    "reservoir_measured_ml",
    "flow_programmed_ml_per_day",
    "volume_programmed_ml",
    "volume_delivered_ml",
    "temperature_celsius",
    "battery",
    "battery.voltage_v",
    "battery.eri",
    "battery.eos",
    "emi",
    "flow_valve",
    "program_checksum",
]

WORDS: Final[Mapping[str, tuple[str | bool, ...]]] = {
    "motor": tuple(word.value for word in Motor),
    "flow_valve": tuple(word.value for word in FlowValve),
    "emi.level": tuple(word.value for word in EmiLevel),
    "battery.eri": (True, False),
    "battery.eos": (True, False),
}
"""What the signals that are no numbers can say."""
CUMULATIVE: Final = frozenset({"volume_programmed_ml", "volume_delivered_ml"})
"""Signals that begin anew with every boot."""


def reader(signal: str) -> Callable[[Report], Any]:
    """A function that reads the signal from a report; None where the report does not say it."""
    whole, _, part = signal.partition(".")
    if not part:
        return lambda report: getattr(report, whole)

    def read(report: Report) -> Any:
        found = getattr(report, whole)
        return None if found is None else getattr(found, part)

    return read


READERS: Final = {name: reader(name) for kind in (NumberSignal, WordSignal, AnySignal) for name in get_args(kind)}
"""How each signal is read from a report."""


def listens_to(signal: str) -> frozenset[str]:
    """The part of a report that carries the signal."""
    return frozenset({signal.partition(".")[0]})


def placeholder(signal: str) -> str:
    """The signal's name in messages."""
    return signal.replace(".", "_")


def kept_for(therapy: Therapy) -> timedelta:
    """How long a value that is not said again still counts: three expected intervals, at least an hour (M.2)."""
    return max(3 * therapy.interval, SHORTEST_KEEP)


def fresh(view: View) -> bool:
    """Whether the pump was heard so recently that an event which was not told certainly did not happen."""
    reported_at = view.state.reported_at
    return reported_at is not None and view.at <= reported_at + kept_for(view.therapy)


class Leaf(Protocol):
    """A part of a typed condition that looks at facts and remembers. Its memory is a function of the facts alone."""

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to; see `streams.domain.memory.Operator`."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Fields of the pump's state that `judge` looks at."""

    @property
    def names(self) -> frozenset[str]:
        """What `values` may give to a message."""

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """The memory after a fact."""

    def judge(self, memory: Memory, view: View) -> Truth:
        """What holds at the moment judged."""

    def values(self, memory: Memory) -> Mapping[str, str]:
        """What messages may say of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit: ``at_least`` and ``at_most`` include it, ``above`` and ``below`` do not.

    A number may be a `Parameter`; `given` puts a pump's parameters in before the leaf observes or judges anything.
    """

    __pydantic_config__ = CLOSED

    at_least: LimitNumber | None = None
    at_most: LimitNumber | None = None
    above: LimitNumber | None = None
    below: LimitNumber | None = None

    def __post_init__(self) -> None:
        """Check that there is exactly one."""
        given = [value for value in (self.at_least, self.at_most, self.above, self.below) if value is not None]
        if len(given) != 1:
            raise ValueError("expected exactly one of at_least, at_most, above, below")

    @property
    def rising(self) -> bool:
        """Whether it is met from above."""
        return self.at_least is not None or self.above is not None

    @property
    def bound(self) -> float | Parameter:
        """The number."""
        given = (self.at_least, self.at_most, self.above, self.below)
        return next(value for value in given if value is not None)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the rule's parameters in it, sorted."""
        values = (getattr(self, one.name) for one in fields(self))
        return tuple(sorted({value.name for value in values if isinstance(value, Parameter)}))

    def given(self, parameters: Mapping[str, float]) -> Self:
        """The same with numbers in the place of their names.

        Raises:
            ValueError: If the numbers do not fit each other.
        """
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        numbers = {key: float(parameters[one.name]) for key, one in values.items() if isinstance(one, Parameter)}
        return replace(self, **numbers)

    def met(self, value: float) -> bool:
        """Whether a value meets the limit."""
        bound = plain(self.bound)
        if self.at_least is not None:
            return value >= bound
        if self.at_most is not None:
            return value <= bound
        return value > bound if self.above is not None else value < bound


def plain(number: float | Parameter) -> float:
    """The number, once it was given."""
    if isinstance(number, Parameter):
        raise TypeError(f"parameter {number.name} was not given")
    return number


EVENT_WORDS: Final[Mapping[str, tuple[str | bool, ...]]] = {
    "outcome": ("requested", "delivered", "denied"),
    "result": tuple(word.value for word in InterrogationResult),
    "codes": tuple(word.value for word in Symptom),
    "phase": ("start", "end"),
    "default_program": (True, False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPattern:
    """An event of a type; ``where``: its fields must equal these, its ``codes`` contain the one given."""

    __pydantic_config__ = CLOSED

    type: EventType
    where: Mapping[str, StrictBool | StrictStr | StrictInt | StrictFloat] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that events of this type can say what is asked."""
        known = event_fields(self.type) - {"scheduled_for"}
        for name, value in self.where.items():
            if name not in known:
                expected = ", ".join(sorted(known)) or "no field"
                raise ValueError(f"where.{name}: events of type {self.type} have {expected}")
            words = EVENT_WORDS.get(name)
            if words is not None and value not in words:
                raise ValueError(f"where.{name}: expected one of {', '.join(map(_shown, words))}")

    @property
    def signal(self) -> str:
        """What it listens to."""
        return f"event:{self.type.value}"

    def fits(self, event: Event) -> bool:
        """Whether it is such an event."""
        if event.type is not self.type:
            return False
        for name, wanted in self.where.items():
            said = getattr(event, name)
            if name == "codes" and said is not None:
                if wanted not in said:
                    return False
            elif said != wanted:
                return False
        return True


def _shown(word: str | bool) -> str:
    return word if isinstance(word, str) else str(word).lower()


def moment(at: datetime) -> str:
    """A time as messages show it."""
    return at.strftime("%Y-%m-%d %H:%M UTC")
