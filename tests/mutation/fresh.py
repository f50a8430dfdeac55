"""A pytest plugin for runs under mutmut: every mutant is loaded anew, and is met by every test that depends on it.

mutmut forks one process for each mutant, and what the parent imported is there already: rules that were read with the
code as it is, and what the core remembers of them. A mutant that only acts at import would never act at all.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import mutmut
import pytest
from hypothesis import Phase, settings

# The same lives for every mutant. A failure is enough; nobody looks at a smaller one, and shrinking takes most time.
settings.register_profile("mutation", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])

OURS = ("services", "streams", "tests")
_at_import: set[str] = set()


def pytest_load_initial_conftests() -> None:
    """Forget our modules before the first of them is imported."""
    settings.load_profile("mutation")
    if os.environ.get("MUTANT_UNDER_TEST") == "fail":
        return  # Mutmut tries whether a test fails when everything does, and for that it must be able to import them.
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        if name != __name__:
            del sys.modules[name]


def pytest_collection_finish() -> None:
    """What ran while the tests were imported concerns all of them; mutmut would tell it to the first one only."""
    _at_import.update(mutmut._stats)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """See `pytest_collection_finish`."""
    vars(item)["_nodeid"] = item.nodeid  # where mutmut 3.7 looks for it, and pytest 9.2 no longer has it
    if _counting():
        mutmut._stats |= _at_import


def pytest_runtest_setup() -> None:
    """While mutmut notes which test calls what, no test may find an answer that an earlier one asked for."""
    if not _counting():
        return
    for name, module in list(sys.modules.items()):
        if name.startswith("streams.domain"):
            for value in list(vars(module).values()):
                getattr(value, "cache_clear", _nothing)()
    for thing in gc.get_objects():
        if type(thing).__name__ == "ProfileHistory":
            thing._therapies.clear()
    for memo in sys.modules["streams.domain.profile"]._SHARED.values():
        memo.clear()


def _nothing() -> Any:
    return None


def _counting() -> bool:
    return os.environ.get("MUTANT_UNDER_TEST") == "stats"
