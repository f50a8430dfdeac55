"""The broker's jars: named and checked by a committed list, fetched once, kept in the user's cache."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jgo.maven

from services.standalone.child import StartFailed

LIST: Final = Path(__file__).with_name("kafka-jars.sha256")
DOWNLOADS_AT_ONCE: Final = 6
_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


@dataclass(frozen=True, slots=True)
class Jar:
    """One file of the broker, as Maven names it, and its SHA-256 sum in hexadecimal."""

    sha256: str
    group: str
    artifact: str
    version: str


def listed() -> tuple[Jar, ...]:
    """The broker and everything it needs."""
    rows = (line.split() for line in LIST.read_text(encoding="utf-8").splitlines())
    return tuple(Jar(digest, *name.split(":")) for digest, name in rows)


def default_cache() -> Path:
    """Where the jars are kept: the user's cache, shared by every checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pumpwatch" / "jars"


def missing(cache: Path) -> int:
    """How many jars `fetch` would have to download."""
    context = jgo.maven.MavenContext(repo_cache=cache, local_repos=[])
    kept = (_artifact(context, jar).cached_path for jar in listed())
    return sum(path is None or not path.exists() for path in kept)


def fetch(cache: Path) -> tuple[Path, ...]:
    """The checked jars, downloaded where they are missing.

    Raises:
        StartFailed: If a jar cannot be fetched or is not the one that the list names.
    """
    cache.mkdir(parents=True, exist_ok=True)
    context = jgo.maven.MavenContext(repo_cache=cache, local_repos=[], timeout=30)
    with (cache / ".lock").open("w") as lock, ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return tuple(pool.map(lambda jar: _one(context, jar), listed()))


def _one(context: jgo.maven.MavenContext, jar: Jar) -> Path:
    artifact = _artifact(context, jar)
    kept = artifact.cached_path
    if kept is not None and kept.exists() and _sha256(kept) != jar.sha256:
        kept.unlink()  # A download that was cut off; the one below decides.
    try:
        path: Path = artifact.resolve()
    except (RuntimeError, OSError) as error:  # What `requests` raises are OSErrors.
        if isinstance(error, OSError) and error.errno in _DISK:
            raise StartFailed(f"cannot keep Kafka's jars in {kept}: {error.strerror}") from error
        raise StartFailed(
            f"cannot fetch {jar.artifact} {jar.version} for Kafka: no network, or its server does not answer "
            f"({type(error).__name__}: {error})"
        ) from error
    if _sha256(path) != jar.sha256:
        path.unlink()
        raise StartFailed(f"{jar.artifact} {jar.version} is not the file that {LIST.name} names; nothing was started")
    return path


def _artifact(context: jgo.maven.MavenContext, jar: Jar) -> jgo.maven.Artifact:
    return context.project(jar.group, jar.artifact).at_version(jar.version).artifact()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
