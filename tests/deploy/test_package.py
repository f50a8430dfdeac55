"""What the image installs: the wheel holds every file that the processes read at their start."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.stack import ROOT

PACKAGES: Final = ("services", "streams")
SOURCES: Final = ("pyproject.toml", "README.md", "LICENSE")
BUILD: Final = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"


def files_of(folder: Path) -> set[str]:
    """Every file of the packages under a folder, by its path from there; what Python compiled does not count."""
    found = (path for name in PACKAGES for path in (folder / name).rglob("*"))
    return {path.relative_to(folder).as_posix() for path in found if path.is_file() and path.suffix != ".pyc"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of the wheel, built of a copy as the Dockerfile builds it: without network, by what is installed."""
    copy = tmp_path_factory.mktemp("build")
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=copy, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(copy / "dist" / done.stdout.splitlines()[-1]) as archive:
        return {name for name in archive.namelist() if name.startswith(tuple(f"{name}/" for name in PACKAGES))}


def test_the_wheel_holds_every_file_of_the_packages(wheel: set[str]) -> None:
    """An installation in place reads the checkout and would hide what the image lacks."""
    assert sorted(files_of(ROOT) - wheel) == []
    assert sorted(wheel - files_of(ROOT)) == []


def test_every_pattern_of_package_data_matches_something() -> None:
    """A pattern left behind would look as if a file were taken care of."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]

    idle = [
        f"{package}: {pattern}"
        for package, ones in patterns.items()
        for pattern in ones
        if not any(path.is_file() for path in ROOT.joinpath(*package.split(".")).glob(pattern))
    ]

    assert idle == []


def test_the_image_copies_the_rules_whole() -> None:
    """Rule files are in no package: the image gets their folder, and the processes are told where it is."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")

    assert "COPY alert_rules /etc/pumpwatch/alert_rules" in dockerfile
    assert "PUMPWATCH_RULES=/etc/pumpwatch/alert_rules" in dockerfile
