"""The folder of a stack: who uses it, its secrets, and what a running stack says about itself."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from services.standalone.child import POLL_SECONDS, StartFailed

LEAVING_SECONDS: Final = 40.0
"""How long the processes of a stack whose supervisor was killed may take to end."""


class Folder:
    """Data, logs and secrets of one stack; used by one stack at a time.

    Secrets lie in a folder of their own that only its owner may enter: the folders of the database's data must be
    searchable for the system user that the database runs as when root starts it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self._lock: int | None = None

    @property
    def logs(self) -> Path:
        """Where each part's output goes."""
        return self.path / "logs"

    @property
    def lock(self) -> int:
        """The open lock file: a child that inherits it keeps the folder taken while it lives."""
        assert self._lock is not None, "the folder is not taken"  # noqa: S101 - an error of ours, not of the user
        return self._lock

    def take(self, free_mb: int, say: Callable[[str], None]) -> None:
        """Make the folder if it is missing, and take it for this process until it ends.

        Raises:
            StartFailed: If it cannot be made, another stack uses it, or less than ``free_mb`` MB are free.
        """
        try:
            for folder in (self.path, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            self._secrets.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StartFailed(f"cannot use {self.path} for data: {error.strerror}; set PUMPWATCH_VAR") from error
        self._acquire(self._lock, say)
        free = shutil.disk_usage(self.path).free // 1_000_000
        if free < free_mb:
            raise StartFailed(
                f"only {free} MB are free on the disk of {self.path}, and a start asks for {free_mb} MB; make room, "
                "set PUMPWATCH_VAR to another disk, or lower PUMPWATCH_STANDALONE_DISK_FREE_MB"
            )
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        self._status.unlink(missing_ok=True)

    def _acquire(self, lock: int, say: Callable[[str], None]) -> None:
        deadline, said = time.monotonic() + LEAVING_SECONDS, False
        while not _locked(lock):
            holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
            if _alive(holder):
                raise StartFailed(
                    f"a stack already runs in {self.path} (process {holder}): see `pumpwatch status`, stop it with "
                    "Ctrl-C, or set PUMPWATCH_VAR to another folder"
                )
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"processes of an earlier stack in {self.path} do not end; look for them and end them"
                )
            if not said:
                say("waiting for the processes of the run before, which was cut off")
                said = True
            time.sleep(POLL_SECONDS)

    def secret_path(self, name: str) -> Path:
        """Where the secret of a name is kept."""
        return self._secrets / name

    def secret(self, name: str, make: Callable[[], str]) -> str:
        """The secret kept under a name, made when there is none yet."""
        kept = self.kept(name)
        return kept if kept is not None else self.keep(name, make())

    def kept(self, name: str) -> str | None:
        """The secret kept under a name, None if there is none."""
        path = self.secret_path(name)
        return path.read_text(encoding="utf-8") if path.exists() else None

    def keep(self, name: str, value: str) -> str:
        """Keep a secret, readable by its owner only, whole or not at all."""
        return _write_closed(self.secret_path(name), value)

    def announce(self, status: Mapping[str, Any]) -> None:
        """Say what runs, for `running`; readable by the owner only, since it holds secrets."""
        _write_closed(self._status, json.dumps(status, indent=2))

    def leave(self) -> None:
        """Say that nothing runs any more. The folder stays taken until this process ends."""
        self._status.unlink(missing_ok=True)

    @property
    def _secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def _status(self) -> Path:
        return self._secrets / "status.json"


def running(path: Path) -> dict[str, Any] | None:
    """What the stack that runs in a folder says about itself; None if none runs or it is not up yet."""
    folder = path.expanduser().resolve()
    try:
        status: dict[str, Any] = json.loads((folder / "secrets" / "status.json").read_text(encoding="utf-8"))
        lock = os.open(folder / "lock", os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return None if _locked(lock) else status
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _write_closed(path: Path, text: str) -> str:
    made = path.with_name(path.name + ".new")
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    made.replace(path)
    return text
