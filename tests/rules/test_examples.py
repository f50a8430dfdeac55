"""Every example in every rule file is a test of the production engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from streams.domain.rule import Rule
from streams.rehearsal import try_example
from streams.rulebook import examples
from tests.shipped import RULES


@pytest.mark.parametrize(
    ("rule", "example"),
    [pytest.param(rule, example, id=f"{rule.id}: {example['name']}") for rule, example in examples(RULES)],
)
def test_rule_example(rule: Rule, example: Mapping[str, Any]) -> None:
    """The rule does what its file says it does."""
    trial = try_example(rule, example, RULES)

    assert trial.got == trial.expected, trial.diff()
