"""``python -m services.standalone``: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import asyncpg
import structlog
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from services.standalone.child import StartFailed
from services.standalone.folder import Folder
from services.standalone.news import News
from services.standalone.settings import Settings
from services.standalone.stack import Stack
from streams.migrations import MigrationRefused
from streams.operations import PortTaken, until_stopped
from streams.provision import UnsafeTopic

TOLD_ALERTS: Final = 10
NOTICE: Final = "Pumpwatch: everything on this machine. Not a medical device; for trying out, never for patients."

Say = Callable[[str], None]


def main() -> int:
    """Run until stopped; 0 after Ctrl-C or SIGTERM, 1 when it cannot start, 2 when a setting is wrong."""
    try:
        settings = Settings()
    except ValidationError as error:
        found = (f"PUMPWATCH_{'_'.join(map(str, entry['loc'])).upper()}: {entry['msg']}" for entry in error.errors())
        sys.stderr.write("".join(f"wrong setting {line}\n" for line in found))
        return 2
    say = teller()
    say(NOTICE)
    folder = Folder(settings.var)
    try:
        folder.take(settings.standalone_disk_free_mb, say)
        _log_to(folder.logs / "standalone.log")
        asyncio.run(_run(Stack(settings, folder, say), say, emulator=settings.standalone_emulator))
    except (StartFailed, MigrationRefused, UnsafeTopic, PortTaken, KafkaError, asyncpg.PostgresError) as error:
        sys.stderr.write(f"cannot go on: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("ended at once\n")
        return 1
    return 0


def teller() -> Say:
    """Says lines on stdout with the seconds since now, at once also into a pipe."""
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {line}\n")
        sys.stdout.flush()

    return say


async def _run(stack: Stack, say: Say, *, emulator: bool) -> None:
    stopped = asyncio.create_task(until_stopped(), name="stop signal")
    life = asyncio.create_task(_live(stack, say, emulator=emulator), name="stack")
    try:
        await asyncio.wait((stopped, life), return_when=asyncio.FIRST_COMPLETED)
    finally:
        say("stopping everything in order; the data stays")
        life.cancel()
        ended = await asyncio.gather(life, return_exceptions=True)
        await stack.stop()
        stopped.cancel()
        say("stopped")
    with contextlib.suppress(asyncio.CancelledError):
        if isinstance(ended[0], BaseException):
            raise ended[0]


async def _live(stack: Stack, say: Say, *, emulator: bool) -> None:
    await stack.start()
    news = News(stack.dsn("pumpwatch_read"), stack.web)
    await news.begin()
    if emulator:
        await stack.start_emulator()
    for line in _summary(stack):
        say(line)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stack.keep())
        tasks.create_task(_tell(news, stack.web, say))


async def _tell(news: News, web: str, say: Say) -> None:
    async for line in news.lines(TOLD_ALERTS):
        say(line)
    say(f"further alerts are on the page: {web}")


def _summary(stack: Stack) -> tuple[str, ...]:
    person, password = next(iter(stack.status()["people"].items()))
    return (
        "everything is up:",
        f"  care-team page   {stack.web}   sign in as {person}, password {password}",
        f"  mailbox          {stack.mailbox}   every mail that people would get",
        f"  ingest           {stack.status()['ingest']}",
        "  more             `.venv/bin/pumpwatch status`; Ctrl-C stops everything",
    )


def _log_to(path: Path) -> None:
    """Keep the lines of libraries and of our own modules off the terminal, which is for people."""
    logging.basicConfig(filename=path, filemode="w", level="INFO", force=True)
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


if __name__ == "__main__":
    sys.exit(main())
