"""Who is signed in: sessions in PostgreSQL, known to the browser by a random token of which only the hash is stored."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

KEPT: Final = timedelta(days=30)
TOUCH_SECONDS: Final = 30.0
STATEMENT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a session lasts: ``idle`` without its person doing anything, ``longest`` in any case."""

    idle: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is signed in. ``csrf_token`` is what their forms must send back."""

    key: bytes
    person_id: str
    display_name: str
    csrf_token: str
    last_seen_at: datetime


async def begin(pool: asyncpg.Pool[Any], person_id: str, now: datetime) -> str:
    """Start a session and return the cookie's token; sessions that ended a month ago are forgotten."""
    token = secrets.token_urlsafe(32)
    await pool.execute("DELETE FROM web_session WHERE last_seen_at < $1", now - KEPT, timeout=STATEMENT_SECONDS)
    await pool.execute(
        """
        INSERT INTO web_session (session_hash, person_id, csrf_token, created_at, last_seen_at)
        VALUES ($1, $2, $3, $4, $4)
        """,
        _key(token),
        person_id,
        secrets.token_urlsafe(32),
        now,
        timeout=STATEMENT_SECONDS,
    )
    return token


async def find(pool: asyncpg.Pool[Any], token: str | None, lifetime: Lifetime, now: datetime) -> Session | None:
    """The session of a cookie's token, unless it ended, was idle or went on for too long, or its person lost access."""
    if not token or len(token) > 128 or not token.isascii():
        return None
    row = await pool.fetchrow(
        """
        SELECT session_hash, person_id, display_name, csrf_token, last_seen_at
        FROM web_session JOIN person USING (person_id)
        WHERE session_hash = $1 AND ended_at IS NULL AND disabled_at IS NULL
          AND last_seen_at > $2 AND web_session.created_at > $3
        """,
        _key(token),
        now - lifetime.idle,
        now - lifetime.longest,
        timeout=STATEMENT_SECONDS,
    )
    return Session(*row.values()) if row else None


async def touch(pool: asyncpg.Pool[Any], session: Session, now: datetime) -> None:
    """Note that the person did something; at most every half minute, to spare the database."""
    if (now - session.last_seen_at).total_seconds() >= TOUCH_SECONDS:
        await pool.execute(
            "UPDATE web_session SET last_seen_at = greatest(last_seen_at, $2) WHERE session_hash = $1",
            session.key,
            now,
            timeout=STATEMENT_SECONDS,
        )


async def end(pool: asyncpg.Pool[Any], session: Session, now: datetime) -> None:
    """Sign out."""
    await pool.execute(
        "UPDATE web_session SET ended_at = $2 WHERE session_hash = $1 AND ended_at IS NULL",
        session.key,
        now,
        timeout=STATEMENT_SECONDS,
    )


async def count(pool: asyncpg.Pool[Any] | asyncpg.Connection[Any], lifetime: Lifetime, now: datetime) -> int:
    """How many sessions have not ended."""
    found: int = await pool.fetchval(
        "SELECT count(*) FROM web_session WHERE ended_at IS NULL AND last_seen_at > $1 AND created_at > $2",
        now - lifetime.idle,
        now - lifetime.longest,
        timeout=STATEMENT_SECONDS,
    )
    return found


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
