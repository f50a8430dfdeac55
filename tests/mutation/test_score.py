"""The mutation score is what it says: which mutants count, how they are chosen, and which survivors are excused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.__main__ import JUDGED
from tests.mutation.mutants import Fate, Mutant, by_module, sample
from tests.mutation.score import Kind, Score, interval, judged, score


def _mutants(module: str, count: int, fate: Fate = Fate.KILLED) -> list[Mutant]:
    path = Path(f"streams/domain/{module}.py")
    return [Mutant(f"streams.domain.{module}.x_f__mutmut_{number}", path, fate) for number in range(1, count + 1)]


def test_what_was_not_tried_does_not_count_and_what_no_test_reaches_survives() -> None:
    """An endless mutant is noticed as well as one that fails a test."""
    tried = [mutant for fate in Fate for mutant in _mutants("alert", 2, fate)]

    assert score(tried) == Score(noticed=4, of=8)
    assert {mutant.fate for mutant in tried if mutant.lives} == {Fate.SURVIVED, Fate.UNTESTED}


def test_the_interval_is_wilsons() -> None:
    """Against published values; it never leaves 0 and 1."""
    assert interval(85, 100) == pytest.approx((0.767, 0.907), abs=0.001)
    assert interval(0, 10) == pytest.approx((0.0, 0.278), abs=0.001)
    assert interval(10, 10) == pytest.approx((0.722, 1.0), abs=0.001)
    assert str(Score(85, 100)) == "85.0% (85 of 100; 95 % interval 76.7% to 90.7%)"


def test_a_sample_has_of_each_module_its_share_and_at_least_one() -> None:
    """The same seed chooses the same ones, another seed others."""
    known = _mutants("alert", 600) + _mutants("care", 297) + _mutants("outage", 3)

    chosen = sample(known, 90, seed=1)

    assert {path.stem: len(ours) for path, ours in by_module(chosen).items()} == {"alert": 60, "care": 29, "outage": 1}
    assert chosen == sample(known, 90, seed=1)
    assert chosen != sample(known, 90, seed=2)
    assert len(set(chosen)) == 90
    assert sample(known, 10_000, seed=1) == known


@pytest.mark.parametrize(
    ("mangled", "function"),
    [
        ("x_match__mutmut_3", "streams.domain.alert.match"),
        ("x__id_of__mutmut_1", "streams.domain.alert._id_of"),
        ("xǁBookǁ__init____mutmut_12", "streams.domain.alert.Book.__init__"),
    ],
)
def test_a_mutant_is_named_by_its_function(mangled: str, function: str) -> None:
    """Whatever number it has: another change of the function numbers its mutants anew."""
    assert Mutant(f"streams.domain.alert.{mangled}", Path("streams/domain/alert.py"), Fate.KILLED).function == function


def test_every_survivor_that_is_listed_has_its_reason() -> None:
    """And is listed once."""
    listed = judged(JUDGED)

    assert len(listed) == JUDGED.read_text("utf-8").count("[[survivor]]")
    assert all(len(survivor.reason) > 10 and isinstance(survivor.kind, Kind) for survivor in listed.values())
    assert all(survivor.function.startswith("streams.domain.") for survivor in listed.values())
