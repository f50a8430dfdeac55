"""Puts small faults into `streams/domain`, one at a time, and tells how many of them the tests notice.

mutmut makes the faults and runs, for each, the tests that reach the function. All of them take many hours, so a sample
is tried unless all are asked for. What mutmut cannot mutate is not counted: methods of dataclasses and other decorated
classes, decorated functions, and code outside functions.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.mutation import mutants, score
from tests.mutation.mutants import Fate, Mutant
from tests.mutation.score import Score

JUDGED: Final = Path(__file__).with_name("survivors.toml")
CHOSEN: Final = mutants.FOLDER / "chosen.json"
"""The names that were chosen last, so that their survivors can be tried again."""
LOG: Final = mutants.FOLDER / "mutmut.log"
LIVES: Final = "10"
"""Of each property; the examples and the plain tests notice nearly everything, and survivors meet every test."""


def choose(wanted: str, seed: int, known: Sequence[Mutant]) -> list[Mutant]:
    """The mutants that the score is about.

    Args:
        wanted: How many; ``all``; or ``survivors`` for those that were chosen last.
        seed: Of the chance that chooses.
        known: All mutants there are.
    """
    if wanted == "all":
        return list(known)
    if wanted == "survivors":
        names = set(json.loads(CHOSEN.read_text()))
        return [mutant for mutant in known if mutant.name in names]
    return mutants.sample(known, int(wanted), seed)


def attempt(names: Sequence[str]) -> None:
    """Let mutmut try these mutants, one for each core at a time, or with none named all that it has not tried yet.

    It needs written bytecode: a module with all its mutants takes long to compile, and every mutant imports it anew.
    """
    environment = {"PUMPWATCH_LIVES": LIVES, **os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.pop("MUTANT_UNDER_TEST", None)
    program, at_once = Path(sys.executable).with_name("mutmut"), str(os.cpu_count() or 1)
    with LOG.open("w") as log:
        # Its spinners and progress are for a terminal that nothing else is written to.
        done = subprocess.run(
            [program, "run", "--max-children", at_once, *names], env=environment, stdout=log, check=False
        )
    if done.returncode:
        sys.exit(f"mutmut failed; see {LOG}")


def report(chosen: Sequence[Mutant], known: Sequence[Mutant]) -> bool:
    """Tell the scores and the survivors; returns whether the tests notice enough."""
    listed = score.judged(JUDGED)
    survivors = [(mutant, (mutant.function, *mutant.change())) for mutant in chosen if mutant.lives]
    raw = score.score(chosen)
    fates = Counter(mutant.fate for mutant in chosen)
    kinds = Counter(listed[key].kind.value if key in listed else "not judged" for _, key in survivors)
    rest = Score(raw.noticed, raw.of - kinds.total() + kinds["not judged"])
    print(f"\n{score.table(chosen, mutants.by_module(known))}\n")
    print(f"raw score: {raw}")
    print(f"without the survivors that {JUDGED.name} lists: {rest}; required: {score.REQUIRED:.0%}")
    print("fates: " + ", ".join(f"{fate.value} {count}" for fate, count in sorted(fates.items())))
    print("survivors: " + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    for mutant, (function, was, now) in survivors:
        verdict = listed.get((function, was, now))
        print(f"\n{mutant.name} ({mutant.fate})\n  - {was}\n  + {now}")
        print(f"  {verdict.kind}: {verdict.reason}" if verdict else "  not judged")
    return rest.share >= score.REQUIRED and not fates[Fate.UNTRIED]


def main() -> int:
    """Exit code 1 where the tests notice less than required, or where not every chosen mutant could be tried."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("wanted", nargs="?", default="600", help="how many mutants; or: all, survivors, report")
    parser.add_argument("--seed", type=int, default=1, help="of the chance that chooses them (default: 1)")
    given = parser.parse_args()
    mutants.make()
    known = mutants.known()
    wanted = "survivors" if given.wanted == "report" else given.wanted
    chosen = choose(wanted, given.seed, known)
    CHOSEN.write_text(json.dumps([mutant.name for mutant in chosen]))
    print(f"{len(chosen)} of {len(known)} mutants, seed {given.seed}", flush=True)
    open_ones = [mutant for mutant in chosen if mutant.lives or mutant.fate is Fate.UNTRIED]
    if given.wanted == "all":
        attempt([])
    elif given.wanted != "report" and (tried := open_ones if wanted == "survivors" else chosen):
        attempt([mutant.name for mutant in tried])
    now = {mutant.name: mutant for mutant in mutants.known()}
    return 0 if report([now[mutant.name] for mutant in chosen], known) else 1


if __name__ == "__main__":
    sys.exit(main())
