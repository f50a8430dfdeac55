"""What a rule is: a condition with parameters, and how its alert behaves. Rules are data from ``alert_rules/``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from streams.domain.alert import Episode, Priority, PriorityStep, Reason
from streams.domain.care import LONGEST_LOOSENING, CareKind, CareRecord, CareRejected
from streams.domain.memory import Memory, Operator
from streams.domain.profile import Therapy
from streams.domain.world import PumpState


class Presence(StrEnum):
    """Whether an alarm condition holds. Missing data never counts as ``ABSENT``."""

    PRESENT = "present"
    ABSENT = "absent"
    NOT_EVALUABLE = "not evaluable"


class Finding(msgspec.Struct, frozen=True):
    """What a condition says of a state at a moment.

    ``steps`` are the priorities reached so far with their own event times (never after the moment judged), lowest
    first. ``ended_at`` is the event time of the evidence for an absence. ``wake_at`` is when the finding would change
    by the mere passing of time. ``retract`` says that the condition never held, and why. ``reminders`` are event times
    (never after the moment judged) at which people are told again without a higher priority. ``closed_by`` names the
    person whose record ends even a latched alert (a refill, replacement or review that somebody entered; catalogue
    A.3); only with ``ABSENT``. ``start_step`` is the ladder's step that is due at once, with those before it.
    ``resolvable_from`` says that the condition is a fact of the past, which cannot end by itself: from then on (event
    time, inclusive) a person may resolve the alert although it latches and the condition holds. ``latch`` says that the
    alert from now on waits for a person, whatever its priority.
    """

    presence: Presence
    steps: tuple[PriorityStep, ...] = ()
    ended_at: datetime | None = None
    wake_at: datetime | None = None
    retract: Reason | None = None
    physician_by: datetime | None = None
    parents: tuple[str, ...] = ()
    values: Mapping[str, str] | None = None
    reminders: tuple[datetime, ...] = ()
    closed_by: str | None = None
    start_step: int = 0
    resolvable_from: datetime | None = None
    latch: bool = False


ABSENT: Final = Finding(Presence.ABSENT)
NOT_EVALUABLE: Final = Finding(Presence.NOT_EVALUABLE)
NO_MEMORY: Final[Mapping[str, Memory]] = {}


class View(msgspec.Struct):
    """What a condition may look at: one pump's state and therapy, its rules' latest episodes, and the moment judged.

    ``heard_at`` is only set when silence may be judged: the service time of the last message, or of the moment from
    which the service could hear the pump again, whichever is later. ``at`` is then service time too. ``memory`` is what
    the operators of typed conditions remember, by their keys. ``book`` holds all rules in force.
    """

    state: PumpState
    therapy: Therapy
    tracks: Mapping[str, Episode]
    at: datetime
    heard_at: datetime | None = None
    memory: Mapping[str, Memory] = NO_MEMORY
    book: RuleBook | None = None

    def open_track(self, rule_id: str) -> Episode | None:
        """The rule's open episode, if any."""
        track = self.tracks.get(rule_id)
        return track if track is not None and not track.closed else None

    def present_track(self, rule_id: str) -> Episode | None:
        """The rule's open episode whose condition holds, if any."""
        track = self.tracks.get(rule_id)
        return track if track is not None and track.present and not track.closed else None

    @property
    def taken_out(self) -> CareRecord | None:
        """The record by which a named person took the pump out of service; None once it reported at that time or later.

        Whatever a pump in nobody said last is no condition of a patient; one that speaks again is in service.
        """
        therapy, reported_at = self.therapy, self.state.reported_at
        record = therapy.newest(CareKind.REPLACED) if therapy.care else None
        silent = record is not None and (reported_at is None or reported_at < record.valid_from)
        return record if silent else None

    def parameters(self, rule: Rule) -> Mapping[str, Any]:
        """The rule's parameters for this pump now: the file's variants that fit, and the patient's own settings."""
        return parameters_of(rule, self.therapy)

    def due(self, deadline: datetime) -> datetime:
        """A deadline that lies before the profile version which creates it is due when that version starts (M.29)."""
        earliest = self.therapy.valid_from
        return deadline if earliest is None or deadline >= earliest else earliest


Condition = Callable[[View, "Rule"], Finding]

FEVER_RULE: Final = "TMP-01"
"""Tells warmth at the pump, which may be an early sign of withdrawal (clinical.md F-01)."""
ADVANCED_BY_FEVER: Final = ("DLV-", "MRI-")
"""How the ids of the rules begin whose alerts start a step further up the ladder while `FEVER_RULE` holds."""

MERGE_WINDOWS: Final = {
    Priority.HIGH: timedelta(minutes=30),
    Priority.MEDIUM: timedelta(hours=24),
    Priority.LOW: timedelta(hours=72),
    Priority.INFO: timedelta(hours=72),
}
"""A recurrence within this time of its end continues the same alert; inclusive (rules_catalogue.md A.3)."""

Freeze = Literal["never", "delivery", "until_refill", "until_interrogation"]


@dataclass(frozen=True, slots=True)
class Named:
    """A condition that rule files use by its name.

    Args:
        judge: The condition.
        reads: Fields of `PumpState` that can make it present, change its steps while present, or change ``wake_at``.
            A rule whose alert is closed is judged again only when one of them changed, a `Finding.wake_at` passed, the
            therapy changed, or a rule in ``follows`` changed; an open or muted alert is always judged.
        follows: Rules whose latest episodes it looks at.
    """

    judge: Condition
    reads: tuple[str, ...]
    follows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """Which way a parameter may be set per patient.

    Args:
        tighter: In which direction the rule becomes stricter; that way there is no limit.
        loosest: The furthest value in the other direction; inclusive.
    """

    tighter: Literal["higher", "lower"]
    loosest: float

    def allows(self, value: float, default: float, record: CareRecord) -> bool:
        """Whether a patient's value may take the place of ``default``; a looser one needs its bound and its end."""
        if self.stricter(value, default):
            return True
        ends_at = record.valid_until
        ends = ends_at is not None and ends_at - record.valid_from <= LONGEST_LOOSENING
        return self.stricter(value, self.loosest) and ends

    def stricter(self, value: float, than: float) -> bool:
        """Whether a value is as strict as another, or stricter."""
        return value >= than if self.tighter == "higher" else value <= than


@dataclass(frozen=True, slots=True)
class Variant:
    """Parameters for some pumps: all of the given drug, family and risk class must fit; later variants win."""

    parameters: Mapping[str, float]
    drug: str | None = None
    family: str | None = None
    withdrawal: int | None = None
    high_risk: bool | None = None

    def fits(self, therapy: Therapy) -> bool:
        """Whether it is for this pump; a drug counts wherever it is part of the mixture."""
        drugs = {drug.name for drug in therapy.profile.drugs} if therapy.profile else set()
        return (
            (self.drug is None or self.drug in drugs)
            and (self.family is None or self.family == therapy.family)
            and (self.withdrawal is None or self.withdrawal == therapy.withdrawal)
            and (self.high_risk is None or self.high_risk == therapy.high_risk)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alert rule as its file states it; ``content_hash`` is what an alert stores to show what was in force.

    ``latching`` is the lowest priority from which the alert stays open until a person resolves it; None: it clears by
    itself. ``judged_by``: whether time in the reports decides, or the service's own waiting for them (silence).
    ``child_of`` are the rules that take its alert as their child while theirs is open. ``operators`` are the parts of a
    typed condition that remember something. ``ladder`` is how it climbs through the people (catalogue A.5), None: as
    its priority does. ``lives_in`` is the process that judges it; all but the system's own rules live in the worker.
    ``freezes_from`` is the lowest priority at which it freezes the delivery clock.
    """

    id: str
    title: str
    condition: Condition
    parameters: Mapping[str, Any]
    latching: Priority | None
    freezes: Freeze
    child_of: tuple[str, ...]
    message: str
    evidence: tuple[str, ...]
    content_hash: str
    judged_by: Literal["event_time", "arrival", "both"]
    condition_name: str = ""
    reads: tuple[str, ...] = ("*",)
    follows: tuple[str, ...] = ()
    operators: tuple[Operator, ...] = ()
    variants: tuple[Variant, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    hazards: tuple[str, ...] = ()
    runbook: str = ""
    ladder: Literal["H", "M", "L", "none"] | None = None
    lives_in: Literal["worker", "notify", "watchdog"] = "worker"
    freezes_from: Priority = Priority.INFO
    examples: tuple[Mapping[str, Any], ...] = field(default=())

    def latches(self, priority: Priority) -> bool:
        """Whether an episode that reached ``priority`` waits for a person."""
        return self.latching is not None and priority.rank >= self.latching.rank

    @property
    def advanced_by_fever(self) -> bool:
        """Whether its alerts are about delivery, so that a fever makes them more urgent."""
        return self.id.startswith(ADVANCED_BY_FEVER)

    def text(self, finding: Finding) -> str:
        """The alert's message with the finding's values."""
        return self.message.format_map(_Values(finding.values or {}))


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "unknown"


def parameters_of(rule: Rule, therapy: Therapy) -> Mapping[str, Any]:
    """See `parameters_in_force`; found once for each rule and therapy."""
    found = therapy.parameters.get(rule.content_hash)
    if found is None:
        found = therapy.parameters[rule.content_hash] = parameters_in_force(rule, therapy)
    return found


def parameters_in_force(rule: Rule, therapy: Therapy) -> Mapping[str, Any]:
    """A rule's parameters for one pump: the file's, then what fits its drug, family and risk, then the patient's own.

    A setting that cannot be used (unknown, or looser than allowed) is left out: the stricter default stays. Of several
    for one parameter the last that can be used counts; each is measured against the default, never against another.
    """
    defaults = default_parameters(rule, therapy)
    parameters = dict(defaults)
    for record in therapy.of_kind(CareKind.SETTING):
        name = record.parameter
        if record.rule_id == rule.id and name is not None and usable(rule, record, defaults.get(name)):
            parameters[name] = record.value
    return parameters


def default_parameters(rule: Rule, therapy: Therapy) -> Mapping[str, Any]:
    """A rule's parameters for one pump before anything was set for the patient."""
    parameters = dict(rule.parameters)
    for variant in rule.variants:
        if variant.fits(therapy):
            parameters |= variant.parameters
    return parameters


def usable(rule: Rule, record: CareRecord, default: Any) -> bool:
    """Whether a patient's setting names a parameter that may be set, and a value within its bounds."""
    setting = rule.settings.get(record.parameter or "")
    return setting is not None and record.value is not None and setting.allows(record.value, float(default), record)


def setting_refused(rules: RuleBook, record: CareRecord, therapy: Therapy) -> CareRejected | None:
    """Why a patient's setting could not be used; None where it can.

    Args:
        rules: The rules in force.
        record: Of kind `CareKind.SETTING`.
        therapy: The pump's at ``record.valid_from``: what the rule's default is depends on it.
    """
    rule, name, value = rules.get(record.rule_id or ""), record.parameter or "", record.value
    if rule is None:
        return CareRejected("/rule_id", f"there is no rule {record.rule_id}")
    setting, default = rule.settings.get(name), default_parameters(rule, therapy).get(name)
    if setting is None or default is None or value is None:
        may = ", ".join(sorted(rule.settings)) or "nothing"
        return CareRejected("/parameter", f"{rule.id} has no such parameter for one patient; {may} may be set")
    if usable(rule, record, default):
        return None
    default = f"the default {float(default):g}"
    if not setting.stricter(value, setting.loosest):
        bound = "at least" if setting.tighter == "higher" else "at most"
        return CareRejected("/value", f"less strict than allowed: must be {bound} {setting.loosest:g} ({default})")
    longest = f"at most {LONGEST_LOOSENING.days} days after valid_from"
    return CareRejected("/valid_until", f"a value less strict than {default} needs an end, {longest}")


class RuleBook:
    """All rules in force, parents before the rules that defer to them.

    Args:
        rules: In the order in which they are judged.
    """

    __slots__ = (
        "_by_id",
        "arrival_rules",
        "event_rules",
        "followers",
        "key",
        "masks",
        "operator_keys",
        "operators",
        "place",
        "rules",
    )

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._by_id = {rule.id: rule for rule in rules}
        in_worker = tuple(rule for rule in rules if rule.lives_in == "worker")
        self.event_rules = tuple(rule for rule in in_worker if rule.judged_by != "arrival")
        self.arrival_rules = tuple(rule for rule in in_worker if rule.judged_by != "event_time")
        said = "".join(rule.content_hash for rule in rules)
        self.key = hashlib.blake2b(said.encode(), digest_size=6).hexdigest()
        self.place = {rule.id: index for index, rule in enumerate(self.event_rules)}
        self.masks = tuple(_mask(self.event_rules, name) for name in PumpState.__struct_fields__)
        self.followers = {
            rule.id: sum(1 << index for index, other in enumerate(self.event_rules) if rule.id in other.follows)
            for rule in rules
        }
        self.operator_keys = frozenset(operator.key for rule in self.event_rules for operator in rule.operators)
        self.operators: dict[str, list[tuple[Operator, int]]] = {}
        for index, rule in enumerate(self.event_rules):
            for operator in rule.operators:
                for signal in sorted(operator.signals):
                    self.operators.setdefault(signal, []).append((operator, 1 << index))

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __getitem__(self, rule_id: str) -> Rule:
        return self._by_id[rule_id]

    def get(self, rule_id: str) -> Rule | None:
        """The rule, or None when it is no longer in the book."""
        return self._by_id.get(rule_id)

    def accepts(self, record: CareRecord, therapy: Therapy) -> bool:
        """Whether a patient's setting can be used with these rules; one that cannot leaves the default in force."""
        rule, name = self._by_id.get(record.rule_id or ""), record.parameter
        if rule is None or name is None or name not in rule.parameters:
            return False
        return usable(rule, record, default_parameters(rule, therapy)[name])


def _mask(rules: tuple[Rule, ...], name: str) -> int:
    """One bit for each rule that reads the field."""
    return sum(1 << index for index, rule in enumerate(rules) if name in rule.reads or "*" in rule.reads)
