"""Rules that change while a process runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streams.domain.rule import RuleBook
from streams.domain.world import World
from streams.rule_errors import RuleError
from streams.rules_in_force import Reload, RulesInForce
from streams.ticks import SWEEP
from tests.services.worker.bench import Bench, received, record, sample
from tests.services.worker.test_ticks import ticks

RULE = """\
id: SIT-01
title: A rule of this site
condition: {threshold: {signal: reservoir_estimated_ml, at_most: 2.0}}
priority: low
message: Low.
evidence: [X]
examples:
  - &low
    name: low
    reports: [{at: PT0M, reservoir_estimated_ml: 2.0}]
    until: PT1M
    expect: [{at: PT0M, event: opened}]
  - *low
  - *low
"""


class Folder:
    """A folder of rules, its rules in force, and what was counted."""

    def __init__(self, path: Path) -> None:
        self.path, self.registry = path, CollectorRegistry()
        (path / "site").mkdir()
        self.write(RULE)
        self.rules = RulesInForce.load(path, self.registry)

    def write(self, text: str, name: str = "rule") -> None:
        """Put a rule file there."""
        (self.path / "site" / f"{name}.yaml").write_text(text)

    async def look(self) -> Reload | None:
        """Look as often as a change needs to be taken over."""
        first = await self.rules.look()
        assert first is None
        return await self.rules.look()

    def count(self, outcome: Reload) -> float:
        """How often it came to this."""
        return sample(self.registry, "pumpwatch_rulebook_reloads_total", outcome=outcome)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder with one rule."""
    return Folder(tmp_path)


async def test_a_folder_that_did_not_change_is_not_read_again(folder: Folder) -> None:
    """The same book, the same object."""
    before = folder.rules.book

    assert await folder.look() is None
    assert folder.rules.book is before


async def test_a_changed_rule_is_in_force_once_two_looks_see_the_same(folder: Folder) -> None:
    """A copy that is under way is not read half."""
    before = folder.rules.book
    folder.write(RULE.replace("Low.", "Rather low."))
    first = await folder.rules.look()
    folder.write(RULE.replace("Low.", "Very low."))

    second, third = await folder.rules.look(), await folder.rules.look()

    assert (first, second, third) == (None, None, Reload.APPLIED)
    assert folder.rules.book["SIT-01"].message == "Very low."
    assert sample(folder.registry, "pumpwatch_rulebook_info", key=folder.rules.book.key) == 1
    assert sample(folder.registry, "pumpwatch_rulebook_info", key=before.key) == 0


@pytest.mark.parametrize(
    "text", ["id: [", RULE.replace("at_most", "atmost"), RULE.replace("at_most: 2.0", "at_most: 1.0")]
)
async def test_a_folder_that_cannot_be_used_changes_nothing(folder: Folder, text: str) -> None:
    """No YAML, an unknown key, or an example that does not hold; it is refused once, and can be mended."""
    before = folder.rules.book
    folder.write(text)

    refused, again = await folder.look(), await folder.rules.look()

    assert (refused, again, folder.rules.book) == (Reload.REFUSED, None, before)
    assert folder.count(Reload.REFUSED) == 1
    assert sample(folder.registry, "pumpwatch_rulebook_outdated") == 1
    folder.write(RULE + "# mended\n")
    assert await folder.look() is Reload.APPLIED
    assert sample(folder.registry, "pumpwatch_rulebook_outdated") == 0


async def test_files_that_are_touched_and_say_the_same_are_no_news(folder: Folder) -> None:
    """A deployment that copies the same files."""
    before = folder.rules.book
    (folder.path / "site" / "rule.yaml").unlink()
    folder.write(RULE)

    assert await folder.look() is Reload.UNCHANGED
    assert folder.rules.book is before


async def test_rules_that_are_taken_away_all_at_once_stay_in_force(folder: Folder) -> None:
    """An empty folder is a mistake, not a wish."""
    (folder.path / "site" / "rule.yaml").unlink()

    assert await folder.look() is Reload.REFUSED
    assert len(folder.rules.book) == 1


async def test_a_process_keeps_the_rules_that_it_cannot_do_without(tmp_path: Path) -> None:
    """A folder without one of them is refused, at the start and later."""
    folder = Folder(tmp_path)
    with pytest.raises(RuleError, match="no file has SYS-01, which has to be there"):
        RulesInForce.load(tmp_path, CollectorRegistry(), ("SIT-01", "SYS-01"))
    folder.rules = RulesInForce.load(tmp_path, CollectorRegistry(), ("SIT-01",))

    folder.write(RULE.replace("SIT-01", "SIT-02"))

    assert await folder.look() is Reload.REFUSED
    assert "SIT-01" in {rule.id for rule in folder.rules.book}


# Pumps that say nothing ---------------------------------------------------------------------------------------------


async def silent_pumps(count: int) -> Bench:
    """Pumps with a low reservoir, all silent since, under an empty book."""
    bench = Bench(rules=RuleBook(()))
    await bench.start()
    reports = [received(0, f"P-{number:04}", reservoir_estimated_ml=1.0) for number in range(count)]
    for offset, first in enumerate(range(0, count, 100)):
        await bench.worker.handle(record(offset, *reports[first : first + 100]))
    bench.clock.now = received(0).received_at + timedelta(minutes=1)
    bench.partition.heard(bench.clock.now)
    return bench


def worlds(bench: Bench) -> list[World]:
    """What is stored of every pump."""
    return [stored.world for stored in bench.store.pumps.values()]


async def test_silent_pumps_are_judged_by_changed_rules(folder: Folder) -> None:
    """Once: the rounds after it write nothing."""
    bench = await silent_pumps(3)
    rounds = ticks(bench)
    await rounds.once()
    bench.in_force.book = folder.rules.book

    await rounds.once()
    commits = bench.store.commits
    await rounds.once()

    assert [kind for kind, _ in bench.store.events] == ["opened"] * 3
    assert bench.store.commits == commits
    assert {world.head.judged_under.partition("/")[0] for world in worlds(bench)} == {folder.rules.book.key}


async def test_a_round_looks_at_a_limited_number_of_them(folder: Folder) -> None:
    """A fleet is spread over rounds, so that telemetry does not wait."""
    bench = await silent_pumps(SWEEP + 20)
    rounds = ticks(bench)
    bench.in_force.book = folder.rules.book

    await rounds.once()
    first = len(bench.store.events)
    await rounds.once()

    assert (first, len(bench.store.events)) == (SWEEP, SWEEP + 20)


async def test_rules_that_changed_while_no_worker_ran_count_for_silent_pumps_too(folder: Folder) -> None:
    """A restart with other rules looks at every pump once; a restart with the same rules writes nothing."""
    bench = await silent_pumps(2)
    bench.rules = folder.rules.book
    await bench.start()
    bench.partition.heard(bench.clock.now)
    await ticks(bench).once()
    commits = bench.store.commits

    await bench.start()
    bench.partition.heard(bench.clock.now)
    await ticks(bench).once()

    assert [kind for kind, _ in bench.store.events] == ["opened"] * 2
    assert bench.store.commits == commits


async def test_pumps_changed_elsewhere_meanwhile_are_looked_at_again(folder: Folder) -> None:
    """Stale worlds: the round wrote nothing, so the next one does not pass over them."""
    bench = await silent_pumps(2)
    rounds = ticks(bench)
    bench.in_force.book = folder.rules.book
    stored = bench.store.pumps["P-0001"]
    bench.store.pumps["P-0001"] = type(stored)(stored.revision + 1, stored.world, stored.profiles)

    await rounds.once()
    first = list(bench.store.events)
    await rounds.once()

    assert first == []
    assert [kind for kind, _ in bench.store.events] == ["opened"] * 2
