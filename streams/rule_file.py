"""The form of a rule file: its keys and examples, and the JSON Schema that editors complete it by."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from streams.domain.alert import Priority
from streams.domain.conditions import CONDITIONS
from streams.domain.profile import DrugName, Family
from streams.domain.typed import Modifiers, Node
from streams.domain.typed.condition import NO_MODIFIERS
from streams.domain.typed.tree import KINDS


class Expectation(BaseModel):
    """One alert event that an example expects of its rule; ``at`` is its effective time since the example's start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str
    event: Literal["opened", "escalated", "recurred", "re_raised", "cleared", "resolved", "amended", "retracted"]
    priority: Priority | None = None
    reason: str | None = None
    recorded: str | None = None


class Example(BaseModel):
    """A rule's own test: what pumps and people do, and what the rule must make of it. Durations are ISO 8601."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    profile: dict[str, Any] | None = {}
    profiles: list[dict[str, Any]] = []
    """Later versions: changed keys, and ``from``, the offset from which they count."""
    care: list[dict[str, Any]] = []
    """Care records; ``from`` and ``until`` are offsets."""
    time_zone: str = "UTC"
    reports: list[dict[str, Any]]
    resolve: list[str] = []
    until: str
    hazards: list[Annotated[str, Field(pattern=r"^HZ-\d{2}$")]] = []
    """Hazards of the rule that this example shows."""
    expect: list[Expectation]


class SystemExpectation(BaseModel):
    """One alert of the system that an example expects to open or clear; ``at`` is service time since its start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str
    event: Literal["opened", "cleared"]
    subject: str
    priority: Priority | None = None


class SystemExample(BaseModel):
    """A test of a rule that watches the system itself: what is observed one after the other, and what must follow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hazards: list[Annotated[str, Field(pattern=r"^HZ-\d{2}$")]] = []
    observations: list[dict[str, Any]]
    expect: list[SystemExpectation]


class SwitchExpectation(BaseModel):
    """One turn of the dead man's switch; ``at`` is the watchdog's time since the example's start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str
    event: Literal["opened", "escalated", "cleared"]


class SwitchExample(BaseModel):
    """A test of the dead man's switch: when synthetic alarms came through, and how it must turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hazards: list[Annotated[str, Field(pattern=r"^HZ-\d{2}$")]] = []
    passes: list[str]
    until: str
    expect: list[SwitchExpectation]


class VariantEntry(BaseModel):
    """Other parameters for some pumps: all that is given must fit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    drug: DrugName | None = None
    family: Family | None = None
    withdrawal: Literal["w1", "w2", "w3"] | None = None
    high_risk: bool | None = None
    parameters: Annotated[dict[str, int | float], Field(min_length=1)]


class SettingEntry(BaseModel):
    """How far a patient's own value of a parameter may go; see `streams.domain.rule.Setting`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tighter: Literal["higher", "lower"]
    loosest: float


class EscalationEntry(BaseModel):
    """A higher priority, and what must hold beside the condition to reach it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    priority: Priority
    modifiers: Modifiers = NO_MODIFIERS
    when: Node


def _form(condition: object) -> str:
    return "tree" if isinstance(condition, (dict, Node)) else "name"


Name = Annotated[str, WithJsonSchema({"enum": sorted(CONDITIONS)})]
Condition = Annotated[Annotated[Name, Tag("name")] | Annotated[Node, Tag("tree")], Discriminator(_form)]


class RuleFile(BaseModel):
    """The keys of a rule file, in the order in which they are written.

    ``condition`` is the name of a condition in Python with its ``parameters``, or a tree of typed conditions; with a
    tree come ``priority``, ``modifiers``, ``escalate`` and ``clear``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{2}$")]
    title: Annotated[str, Field(min_length=3, max_length=80)]
    lives_in: Literal["worker", "notify", "watchdog"] = "worker"
    condition: Condition
    parameters: dict[str, int | float] = {}
    priority: Priority | None = None
    modifiers: Modifiers = NO_MODIFIERS
    escalate: Annotated[list[EscalationEntry], Field(max_length=4)] = []
    clear: Node | None = None
    variants: list[VariantEntry] = []
    settings: dict[str, SettingEntry] = {}
    judged_by: Literal["event_time", "arrival", "both"] = "event_time"
    latching: Literal[False] | Priority = False
    freezes: Literal["never", "delivery", "until_refill", "until_interrogation"] = "never"
    freezes_from: Priority = Priority.INFO
    child_of: list[str] = []
    ladder: Literal["H", "M", "L", "none"] | None = None
    message: str
    runbook: str = ""
    evidence: list[str]
    hazards: list[Annotated[str, Field(pattern=r"^HZ-\d{2}$")]] = []
    examples: Annotated[list[Example] | list[SystemExample] | list[SwitchExample], Field(min_length=3)]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a rule file."""
    schema = RuleFile.model_json_schema()
    schema["$defs"]["Node"]["oneOf"] = [{"required": [kind]} for kind in KINDS]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Pumpwatch alert rule"}


def schema_text() -> str:
    """The schema as it is kept beside the rules."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
