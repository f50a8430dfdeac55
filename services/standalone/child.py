"""A program that the stack starts, watches and stops."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from streams.operations import PortTaken, listen

POLL_SECONDS: Final = 0.05
LOG_LIMIT_BYTES: Final = 64 * 1024 * 1024
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


class StartFailed(Exception):
    """A program did not come up; the message says what to look at."""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on right now."""
    with listen("127.0.0.1", 0) as probe:
        port: int = probe.getsockname()[1]
        return port


def check_free(port: int, part: str, setting: str) -> None:
    """Refuse to start on a taken port.

    Raises:
        StartFailed: Naming the port, who wanted it, and the setting that changes it.
    """
    try:
        listen("127.0.0.1", port).close()
    except PortTaken as error:
        raise StartFailed(
            f"port {port} for {part} is taken by another process; stop that one or set {setting} to another port"
        ) from error


def accepts(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for a message about a program that did not start."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _end_with_parent(number: signal.Signals) -> None:
    # A stack that is killed must not leave orphans that hold its ports; other systems than Linux lack this call.
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))


class Child:
    """One program, started at most once at a time.

    Args:
        name: For messages.
        argv: Program and arguments.
        env: The whole environment.
        log: File that gets its output; the run before is kept beside it with the ending ``.1``.
        stop_signal: What asks it to end.
        user: Id of the system user to run as; only root may set it.
        keep_open: Open files that it inherits; the stack's lock, so that the folder stays taken while it lives.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: int | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.name, self.argv, self.env, self.log = name, [str(part) for part in argv], dict(env), log
        self._stop_signal, self._user, self._keep_open = stop_signal, user, tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None before the first start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """How the last process ended; None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the program in a session of its own, so that Ctrl-C reaches only the supervisor."""
        if self.log.exists():
            self.log.replace(self._log_before)
        as_user = {} if self._user is None else {"user": self._user, "group": self._user_group(), "extra_groups": []}
        mode = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        with os.fdopen(os.open(self.log, mode, 0o600), "wb") as output:
            self._process = subprocess.Popen(
                self.argv,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent if self._user is None else "/",
                start_new_session=True,
                pass_fds=self._keep_open,
                preexec_fn=partial(_end_with_parent, self._stop_signal),  # noqa: PLW1509 - one system call, which takes no lock
                **as_user,  # type: ignore[call-overload]
            )

    def _user_group(self) -> int:
        import pwd  # noqa: PLC0415 - not on every system, and needed as root only

        assert self._user is not None  # noqa: S101 - narrows the type; the caller has checked it
        return pwd.getpwuid(self._user).pw_gid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait, without limit, until the program ends; its exit code."""
        while (code := self.returncode) is None:
            await asyncio.sleep(POLL_SECONDS)
        return code

    async def stop(self, grace_seconds: float = 15.0) -> None:
        """Ask it to end, and kill it after the grace period."""
        self.signal(self._stop_signal)
        deadline = time.monotonic() + grace_seconds
        while self.running and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def trim_log(self, limit_bytes: int = LOG_LIMIT_BYTES) -> bool:
        """Move a log that has grown too long to the file kept beside it, and begin anew; whether it was so."""
        if not self.log.exists() or self.log.stat().st_size <= limit_bytes:
            return False
        shutil.copyfile(self.log, self._log_before)
        os.truncate(self.log, 0)  # The program appends to the file it has open, so it goes on at the start.
        return True

    @property
    def _log_before(self) -> Path:
        return self.log.with_suffix(self.log.suffix + ".1")

    def check_alive(self) -> None:
        """Refuse to go on waiting for a program that has ended.

        Raises:
            StartFailed: With the end of its log.
        """
        if not self.running:
            raise StartFailed(f"{self.name} ended with code {self.returncode}; its log {self.log}:\n{tail(self.log)}")


class Server:
    """A program of somebody else that the stack needs; a subclass makes ``_child`` when it starts."""

    name: str

    def __init__(self) -> None:
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        """Its first process.

        Raises:
            StartFailed: If it was never started.
        """
        if self._child is None:
            raise StartFailed(f"{self.name} was not started")
        return self._child

    async def stop(self) -> None:
        """Stop in order; the data stays."""
        if self._child is not None:
            await self._child.stop(grace_seconds=20)
