"""What people read is reviewed like code: a message that changes, or that carries another number, is seen."""

from __future__ import annotations

import pytest

from streams.domain.rule import Rule
from tests.rules.wording import FILE, TOLD, section
from tests.shipped import RULES

WRITTEN = {text.partition("\n")[0]: text for text in FILE.read_text("utf-8").rstrip("\n").split("\n\n")}


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.id) for rule in TOLD])
def test_the_alerts_of_every_example_say_what_was_written_down(rule: Rule) -> None:
    """After a change that is meant, ``python -m tests.rules.wording`` writes the file anew."""
    assert section(rule, RULES) == WRITTEN[rule.id]


def test_no_rule_was_forgotten_or_is_gone() -> None:
    """The file has a section for each rule of the worker."""
    assert list(WRITTEN) == [rule.id for rule in TOLD]
