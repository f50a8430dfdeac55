"""Typed conditions: what a rule file can say without code, as a tree of leaves with bounded memories.

A leaf (a threshold with its hold, a rate, a count in a window, …) is an `streams.domain.memory.Operator`; combinators
join what leaves find by three-valued logic. Everything runs on event time alone: the same reports always find the same,
whenever they arrived.
"""

from __future__ import annotations

from streams.domain.typed.condition import Escalation, Modifiers, TypedCondition
from streams.domain.typed.tree import Node, Part, compiled

__all__ = ["Escalation", "Modifiers", "Node", "Part", "TypedCondition", "compiled"]
