"""The mutants that mutmut makes of `streams/domain`: which there are, what each changes, and what became of it."""

from __future__ import annotations

import contextlib
import io
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from mutmut import __main__ as mutmut
from mutmut.configuration import Config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.trampoline_templates import CLASS_NAME_SEPARATOR

FOLDER: Final = Path("mutants")
"""Where mutmut keeps the mutated copy and the results, relative to the repository."""


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"
    UNTESTED = "untested"
    UNTRIED = "untried"


_FATES: Final = {
    0: Fate.SURVIVED,
    1: Fate.KILLED,
    # The tests could not even be imported; mutmut takes that for somebody pressing ^C.
    2: Fate.KILLED,
    3: Fate.KILLED,
    5: Fate.UNTESTED,
    33: Fate.UNTESTED,
    # The interpreter died of it: endless recursion, mostly.
    -11: Fate.KILLED,
    -9: Fate.TIMED_OUT,
    -24: Fate.TIMED_OUT,
    24: Fate.TIMED_OUT,
    36: Fate.TIMED_OUT,
    152: Fate.TIMED_OUT,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One small fault in one function.

    Args:
        name: As mutmut numbers it; another change of the function numbers it anew.
        path: The module's file.
        fate: What became of it when it was last tried.
    """

    name: str
    path: Path
    fate: Fate

    @property
    def lives(self) -> bool:
        """Whether no test noticed it."""
        return self.fate in {Fate.SURVIVED, Fate.UNTESTED}

    @property
    def function(self) -> str:
        """Dotted name of the function or method that it changes."""
        module, _, mangled = mutmut.mangled_name_from_mutant_name(self.name).rpartition(".")
        plain = mangled.removeprefix("x_").removeprefix(f"x{CLASS_NAME_SEPARATOR}")
        return f"{module}.{plain.replace(CLASS_NAME_SEPARATOR, '.')}"

    def change(self) -> tuple[str, str]:
        """What stood there and what stands there now, each as one line."""
        lines = mutmut.get_diff_for_mutant(self.name, path=self.path).splitlines()[3:]
        was, now = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
        return " ".join(was), " ".join(now)


def make() -> None:
    """Write the mutated copy of the code; what is there already and has not changed stays, with its results."""
    os.environ["MUTANT_UNDER_TEST"] = "mutant_generation"
    FOLDER.mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.create_mutants(1)


def known() -> list[Mutant]:
    """All mutants, in order of their modules."""
    Config.ensure_loaded()
    found = []
    for path in sorted(mutmut.walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        found += [Mutant(name, path, _fate(code)) for name, code in data.exit_code_by_key.items()]
    return found


def _fate(code: int | None) -> Fate:
    return Fate.UNTRIED if code is None else _FATES.get(code, Fate.UNTRIED)


def by_module(mutants: Iterable[Mutant]) -> Mapping[Path, Sequence[Mutant]]:
    """The mutants of each module."""
    found = defaultdict(list)
    for mutant in mutants:
        found[mutant.path].append(mutant)
    return found


def sample(mutants: Sequence[Mutant], size: int, seed: int) -> list[Mutant]:
    """Choose by chance from every module, in proportion to its mutants; at least one of each module.

    The largest remainders get what rounding down leaves over, so that the sizes add up.
    """
    chance, modules = random.Random(seed), by_module(mutants)
    shares = {path: len(ours) * min(size, len(mutants)) / len(mutants) for path, ours in modules.items()}
    sizes = {path: max(1, int(share)) for path, share in shares.items()}
    for path in sorted(shares, key=lambda path: int(shares[path]) - shares[path]):
        if sum(sizes.values()) >= size:
            break
        sizes[path] = min(len(modules[path]), sizes[path] + 1)
    return [mutant for path, ours in modules.items() for mutant in _some(chance, ours, sizes[path])]


def _some(chance: random.Random, mutants: Sequence[Mutant], size: int) -> list[Mutant]:
    """So many of them, in their own order."""
    return [mutants[index] for index in sorted(chance.sample(range(len(mutants)), size))]
