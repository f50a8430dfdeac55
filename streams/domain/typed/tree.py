"""The tree of a typed condition: as a rule file writes it (`Node`), and as it is judged (`Part`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Protocol, cast

from pydantic import Field, PlainValidator, StrictBool, StrictFloat, StrictInt, WithJsonSchema

from streams.domain.conditions import CONDITIONS
from streams.domain.memory import EMPTY, Operator
from streams.domain.profile import Therapy
from streams.domain.rule import Named, Presence, Rule, View, parameters_of
from streams.domain.telemetry import Alarm
from streams.domain.typed.drift import Cusum
from streams.domain.typed.levels import AlarmCode, Threshold, Word
from streams.domain.typed.occurrences import Absence, Count, Deadline, Happened
from streams.domain.typed.signals import CLOSED, Duration, Leaf, Limit
from streams.domain.typed.trends import Predicted, Rate, Ratio
from streams.domain.typed.truth import Truth, all_of, any_of, held, negation

LAYOUT: Final = 1
"""Raised when leaves mean something else by their memories: every memory then starts empty."""
DEEPEST: Final = 8
KINDS: Final = (
    "all", "any", "not", "named", "threshold", "says", "rate", "ratio", "count", "alarm", "event", "absence",
    "deadline", "predicted", "cusum",
)  # fmt: skip


def known_condition(name: object) -> str:
    """A named condition that telemetry decides.

    Raises:
        ValueError: If there is none of that name.
    """
    usable = sorted(known for known, named in CONDITIONS.items() if named.reads)
    if not isinstance(name, str) or name not in usable:
        raise ValueError(f"expected one of {', '.join(usable)}")
    return name


ConditionName = Annotated[str, PlainValidator(known_condition), WithJsonSchema({"type": "string"})]
Children = Annotated[tuple["Node", ...], Field(min_length=2, max_length=16)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node: exactly one kind of condition, and ``hold``: it must have been so for so long, inclusive.

    ``all`` and ``any`` join at least two nodes, ``not`` turns one around; what is not evaluable stays so. ``named`` is
    a condition in Python with ``parameters`` of its own; it is judged afresh, without the rule's open alert.
    """

    __pydantic_config__ = CLOSED

    all_: Annotated[Children | None, Field(alias="all")] = None
    any_: Annotated[Children | None, Field(alias="any")] = None
    not_: Annotated[Node | None, Field(alias="not")] = None
    named: ConditionName | None = None
    parameters: Mapping[str, StrictBool | StrictInt | StrictFloat] = field(default_factory=dict)
    threshold: Threshold | None = None
    says: Word | None = None
    rate: Rate | None = None
    ratio: Ratio | None = None
    count: Count | None = None
    alarm: Alarm | None = None
    event: Happened | None = None
    absence: Absence | None = None
    deadline: Deadline | None = None
    predicted: Predicted | None = None
    cusum: Cusum | None = None
    hold: Duration | None = None

    def __post_init__(self) -> None:
        """Check that it is one thing."""
        given = [kind for kind in KINDS if self.of_kind(kind) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"expected exactly one of {', '.join(KINDS)}; {found}")
        if self.parameters and self.named is None:
            raise ValueError("parameters: expected only beside named; a leaf holds its own numbers")

    def of_kind(self, kind: str) -> Any:
        """What the node says under a key."""
        return getattr(self, f"{kind}_" if kind in ("all", "any", "not") else kind)

    @property
    def kind(self) -> str:
        """The key that it says something under."""
        return next(kind for kind in KINDS if self.of_kind(kind) is not None)

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes below a combinator."""
        return self.all_ or self.any_ or ((self.not_,) if self.not_ is not None else ())

    @property
    def depth(self) -> int:
        """How many nodes are above each other."""
        return 1 + max((child.depth for child in self.children), default=0)


class Part(Protocol):
    """A part of a condition, ready to be judged."""

    operators: tuple[Operator, ...]
    """Its leaves."""
    reads: frozenset[str]
    """Fields of the pump's state that it looks at."""
    follows: frozenset[str]
    """Rules whose episodes it looks at."""
    names: frozenset[str] | None
    """What `values` may give to a message; None: anything, for it has a named condition."""

    def judge(self, view: View) -> Truth:
        """What holds at the moment judged."""

    def values(self, view: View) -> Mapping[str, str]:
        """What messages may say of it."""


class LeafPart:
    """A leaf with its place in the pump's memory."""

    def __init__(self, key: str, leaf: Leaf) -> None:
        self.key, self.leaf, self.signals = key, leaf, leaf.signals
        self.operators: tuple[Operator, ...] = (self,)
        self.reads, self.follows = frozenset(leaf.reads), frozenset[str]()
        self.names: frozenset[str] | None = leaf.names
        self.observe = leaf.observe
        self._judge = leaf.judge

    def judge(self, view: View) -> Truth:
        """What the leaf finds."""
        return self._judge(view.memory.get(self.key, EMPTY), view)

    def values(self, view: View) -> Mapping[str, str]:
        """What the leaf says."""
        return self.leaf.values(view.memory.get(self.key, EMPTY))


class GivenLeafPart(LeafPart):
    """A leaf whose limit is among the rule's parameters, and so another for some pumps."""

    def __init__(self, key: str, leaf: Limit, rule: Rule) -> None:
        super().__init__(key, cast("Leaf", leaf))
        self._template, self._rule, self._names = leaf, rule, leaf.parameters
        self._leaves: dict[tuple[float, ...], Leaf] = {}
        self.observe = lambda memory, fact: self._given(fact.therapy).observe(memory, fact)
        self._judge = lambda memory, view: self._given(view.therapy).judge(memory, view)

    def _given(self, therapy: Therapy) -> Leaf:
        parameters = parameters_of(self._rule, therapy)
        numbers = tuple(parameters[name] for name in self._names)
        leaf = self._leaves.get(numbers)
        if leaf is None:
            leaf = self._leaves[numbers] = cast("Leaf", self._template.given(parameters))
        return leaf


class NamedPart:
    """A condition in Python, under an id and with parameters of its own."""

    def __init__(self, named: Named, rule: Rule) -> None:
        self._named, self._rule = named, rule
        self.operators: tuple[Operator, ...] = ()
        self.reads, self.follows = frozenset(named.reads), frozenset(named.follows)
        self.names: frozenset[str] | None = None

    def judge(self, view: View) -> Truth:
        """What the condition finds; since its first step."""
        found = self._named.judge(view, self._rule)
        if found.presence is Presence.PRESENT:
            return Truth(found.presence, found.steps[0].at if found.steps else view.at, found.wake_at)
        ended_at = (found.ended_at or view.at) if found.presence is Presence.ABSENT else None
        return Truth(found.presence, ended_at, found.wake_at)

    def values(self, view: View) -> Mapping[str, str]:
        """What the condition says."""
        return self._named.judge(view, self._rule).values or {}


class Joined:
    """Several parts, joined; or one that is turned around or held."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.operators: tuple[Operator, ...] = tuple(one for part in parts for one in part.operators)
        self.reads = frozenset[str]().union(*(part.reads for part in parts))
        self.follows = frozenset[str]().union(*(part.follows for part in parts))
        names = [part.names for part in parts]
        known = [some for some in names if some is not None]
        self.names: frozenset[str] | None = frozenset[str]().union(*known) if len(known) == len(names) else None

    def judge(self, view: View) -> Truth:
        """What holds at the moment judged."""
        raise NotImplementedError

    def values(self, view: View) -> Mapping[str, str]:
        """What the parts say; the first of them wins."""
        values: dict[str, str] = {}
        for part in reversed(self.parts):
            values.update(part.values(view))
        return values


class All(Joined):
    """Every part holds."""

    def judge(self, view: View) -> Truth:
        """See `streams.domain.typed.truth.all_of`."""
        return all_of([part.judge(view) for part in self.parts])


class AnyOf(Joined):
    """At least one part holds."""

    def judge(self, view: View) -> Truth:
        """See `streams.domain.typed.truth.any_of`."""
        return any_of([part.judge(view) for part in self.parts])


class Not(Joined):
    """Its only part does not hold."""

    def judge(self, view: View) -> Truth:
        """See `streams.domain.typed.truth.negation`."""
        return negation(self.parts[0].judge(view))


class Held(Joined):
    """Its only part has held for some time."""

    def __init__(self, part: Part, node: Node) -> None:
        super().__init__((part,))
        self._hold = node.hold

    def judge(self, view: View) -> Truth:
        """See `streams.domain.typed.truth.held`."""
        truth = self.parts[0].judge(view)
        return truth if self._hold is None else held(truth, self._hold, view.at)


def compiled(node: Node, rule: Rule, path: str) -> Part:
    """The part that a node describes.

    Args:
        node: In ``rule``'s file.
        rule: For its id and its parameters; its condition is what is being made.
        path: The node's place in the file.
    """
    part = _compiled(node, rule, path)
    return part if node.hold is None else Held(part, node)


def _compiled(node: Node, rule: Rule, path: str) -> Part:
    if node.all_ is not None:
        return All([compiled(child, rule, f"{path}.all.{index}") for index, child in enumerate(node.all_)])
    if node.any_ is not None:
        return AnyOf([compiled(child, rule, f"{path}.any.{index}") for index, child in enumerate(node.any_)])
    if node.not_ is not None:
        return Not([compiled(node.not_, rule, f"{path}.not")])
    if node.named is not None:
        return _named(node.named, node.parameters, f"{rule.id}:{path}")
    leaf: Leaf = AlarmCode(node.alarm) if node.alarm is not None else node.of_kind(node.kind)
    if isinstance(leaf, Limit) and leaf.parameters:
        return GivenLeafPart(f"{rule.id}:{path}:{_said(leaf, *_numbers(rule, leaf.parameters))}", leaf, rule)
    return LeafPart(f"{rule.id}:{path}:{_said(leaf)}", leaf)


def _said(*words: object) -> str:
    """A short word for what a leaf means: it begins anew with an empty memory whenever that changes."""
    text = " ".join(map(repr, words))
    return hashlib.blake2b(f"{LAYOUT} {text}".encode(), digest_size=4).hexdigest()


def _numbers(rule: Rule, names: Sequence[str]) -> tuple[object, ...]:
    """What the file says of these parameters; a patient's own setting is no change of the rule."""
    return [(name, rule.parameters[name]) for name in names], rule.variants


def _named(name: str, parameters: Mapping[str, Any], key: str) -> NamedPart:
    named = CONDITIONS[name]
    said = hashlib.blake2b(repr(sorted(parameters.items())).encode(), digest_size=8).hexdigest()
    rule = Rule(
        id=key,
        title="",
        condition=named.judge,
        parameters=parameters,
        latching=None,
        freezes="never",
        child_of=(),
        message="",
        evidence=(),
        content_hash=f"{key}:{said}",
        judged_by="event_time",
    )
    return NamedPart(named, rule)
