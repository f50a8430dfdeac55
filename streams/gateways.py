"""Gateways: who may hand in reports, each with a token of its own that is stored only as its hash."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import asyncpg

CHANNEL: Final = "pumpwatch_gateways"
"""PostgreSQL notifies here, without payload, whenever a gateway changes."""
TOKEN_PREFIX: Final = "pwg_"  # noqa: S105 - the public part, by which a leaked token is recognised
STATEMENT_SECONDS: Final = 10.0
_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")

Kind = Literal["home", "clinic"]
Pool: TypeAlias = "asyncpg.Pool[Any]"


class GatewayRefused(ValueError):
    """The gateway cannot be added like this."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway as it is listed; revoked when ``revoked_at`` says so."""

    gateway_id: str
    kind: str
    created_at: datetime
    revoked_at: datetime | None


def token_hash(token: str) -> bytes:
    """What is stored of a token; a random token of 256 bits needs no salt and no slow hash."""
    return hashlib.sha256(token.encode()).digest()


async def add(pool: Pool, gateway_id: str, kind: Kind) -> str:
    """Make a gateway's token; for one that exists, a new token replaces the old, which stops working at once.

    Args:
        pool: As the application's role.
        gateway_id: As in its reports: letters, digits, dot, underscore, colon, hyphen; 1 to 64.
        kind: Where it stands: at a patient's home, or in a clinic.

    Returns:
        The token, which nobody can read again.

    Raises:
        GatewayRefused: If the id or the kind is not one.
    """
    if not _ID.fullmatch(gateway_id):
        raise GatewayRefused("a gateway's id is 1 to 64 letters, digits, dots, underscores, colons or hyphens")
    if kind not in ("home", "clinic"):
        raise GatewayRefused("a gateway's kind is home or clinic")
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    await pool.execute(
        """
        INSERT INTO gateway (gateway_id, kind, token_hash) VALUES ($1, $2, $3)
        ON CONFLICT (gateway_id) DO UPDATE
            SET kind = excluded.kind, token_hash = excluded.token_hash, revoked_at = NULL
        """,
        gateway_id,
        kind,
        token_hash(token),
        timeout=STATEMENT_SECONDS,
    )
    return token


async def list_all(pool: Pool) -> list[Gateway]:
    """Every gateway there ever was, by id."""
    rows = await pool.fetch(
        "SELECT gateway_id, kind, created_at, revoked_at FROM gateway ORDER BY gateway_id", timeout=STATEMENT_SECONDS
    )
    return [Gateway(**row) for row in rows]


async def revoke(pool: Pool, gateway_id: str) -> bool:
    """Make a gateway's token useless; False when there is no such gateway with a valid one."""
    found = await pool.fetchval(
        "UPDATE gateway SET revoked_at = now() WHERE gateway_id = $1 AND revoked_at IS NULL RETURNING true",
        gateway_id,
        timeout=STATEMENT_SECONDS,
    )
    return found is not None


@dataclass(frozen=True, slots=True)
class Active:
    """The gateways that may send now: their ids by the hash of their token, and which of them stand in a clinic."""

    by_hash: Mapping[bytes, str]
    clinics: frozenset[str]


async def load_active(pool: Pool) -> Active:
    """Gateways whose token is valid now."""
    rows = await pool.fetch(
        "SELECT token_hash, gateway_id, kind FROM gateway WHERE revoked_at IS NULL", timeout=STATEMENT_SECONDS
    )
    clinics = frozenset(row["gateway_id"] for row in rows if row["kind"] == "clinic")
    return Active({row["token_hash"]: row["gateway_id"] for row in rows}, clinics)
