"""Which gateways are known, and what becomes of that while PostgreSQL does not answer."""

from __future__ import annotations

from typing import Any

import pytest

from services.ingest.metrics import Metrics
from services.ingest.problems import Problem
from services.ingest.settings import Settings
from services.ingest.tokens import KnownGateways, Tokens
from streams.gateways import token_hash


class Table:
    """A pool whose only query answers with these gateways, or not at all."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.answers = True

    async def fetch(self, *_: object, **__: object) -> list[dict[str, Any]]:
        """Rows of the gateway table."""
        if not self.answers:
            raise ConnectionRefusedError
        return self.rows


@pytest.fixture
def table() -> Table:
    """With one gateway."""
    found = Table()
    found.rows = [{"token_hash": token_hash("pwg_one"), "gateway_id": "home-1", "kind": "home"}]
    return found


async def test_known_gateways_are_those_of_the_table(table: Table) -> None:
    """Each reading replaces the one before: what is revoked is gone."""
    known = KnownGateways()
    tokens = Tokens(table, known, Metrics())  # type: ignore[arg-type]

    await tokens.load()
    before = known.speaking("Bearer pwg_one")
    table.rows = []
    await tokens.load()

    assert before == "home-1"
    assert isinstance(known.speaking("Bearer pwg_one"), Problem)


async def test_without_postgresql_the_last_known_tokens_stay_valid(table: Table) -> None:
    """Refusing what pumps say would harm more; how old the tokens are is a metric."""
    known, metrics = KnownGateways(), Metrics()
    tokens = Tokens(table, known, metrics)  # type: ignore[arg-type]
    await tokens.load()
    read_at = tokens.read_at

    table.answers = False
    with pytest.raises(ConnectionRefusedError):
        await tokens.load()

    assert known.speaking("bearer pwg_one") == "home-1"
    assert tokens.read_at == read_at
    assert metrics.registry.get_sample_value("pumpwatch_gateways_known") == 1


def test_settings_hold_no_promise_longer_than_a_record_may_wait() -> None:
    """An answer that waits longer than the record behind it could only be wrong."""
    with pytest.raises(ValueError, match="ingest_answer_seconds"):
        Settings(ingest_answer_seconds=31, ingest_produce_seconds=30)


def test_producing_has_the_thirty_seconds_of_the_design() -> None:
    """A silent broker is noticed within 30 s, not after twenty minutes."""
    assert Settings().ingest_produce_seconds == 30
    assert Settings(ingest_name="edge-1").instance == "edge-1"
    assert Settings().instance
