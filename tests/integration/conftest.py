"""What several of the tests here start from."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.services.notify.care import Care, care_of
from tests.stack import Database


@pytest.fixture
async def care(database: Database) -> AsyncIterator[Care]:
    """The care team of this test."""
    async with care_of(database.app) as care:
        await care.team()
        yield care
