"""Runs the one-machine stack as a person does, and reads what it says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.standalone.child import Child
from services.standalone.settings import PARTS
from tests.stack import ROOT, eventually

UP_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


class Standalone:
    """``python -m services.standalone`` on ports of the OS, with its data in ``folder``.

    Args:
        folder: Of its own.
        env: Settings on top.
    """

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        ports = {f"PUMPWATCH_{name.upper()}": "0" for name in PARTS}
        self.var = folder / "var"
        self.env = {
            **inherited,
            **ports,
            "PYTHONPATH": str(ROOT),
            "PUMPWATCH_VAR": str(self.var),
            "PUMPWATCH_STANDALONE_DISK_FREE_MB": "100",
            **(env or {}),
        }
        argv = [sys.executable, "-m", "services.standalone"]
        log = folder / "standalone.txt"
        self.child = Child("standalone", argv, env=self.env, log=log, stop_signal=signal.SIGINT)

    @property
    def said(self) -> str:
        """Everything it has printed since its start."""
        return self.child.log.read_text(errors="replace") if self.child.log.exists() else ""

    async def until(self, text: str, timeout: float = UP_SECONDS) -> str:
        """Wait until it says something; the first line that holds it."""

        async def line() -> str | None:
            found = next((line for line in self.said.splitlines() if text in line), None)
            assert found is not None or self.child.running, f"it ended with code {self.child.returncode}:\n{self.said}"
            return found

        found = await eventually(line, timeout=timeout, what=f"saying {text!r}")
        assert found is not None
        return found

    async def start(self) -> None:
        """Start it and wait until everything is up."""
        self.child.start()
        await self.until("everything is up")

    async def stop(self) -> int | None:
        """Ctrl-C, and wait; its exit code."""
        await self.child.stop(grace_seconds=60)
        return self.child.returncode

    async def command(self, *arguments: str, stdin: str = "") -> Answer:
        """Run ``pumpwatch …`` beside it."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "services.cli", *arguments],
            env=self.env,
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    async def status(self) -> dict[str, Any]:
        """What ``pumpwatch status --json`` prints."""
        answer = await self.command("status", "--json")
        assert answer.code == 0, answer.err
        found: dict[str, Any] = json.loads(answer.out)
        return found

    def pid_of(self, module: str) -> int:
        """The process of a service, by its module; looked up as the system knows it."""
        pid = self.child.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if module.encode() in command:
                return int(child)
        raise AssertionError(f"no process runs {module}")
