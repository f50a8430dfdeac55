"""What the broker is set up with before it runs."""

from __future__ import annotations

import base64
import uuid

from hypothesis import given
from hypothesis import strategies as st

from services.standalone.kafka import cluster_id


@given(chance=st.uuids())
def test_a_cluster_id_is_never_taken_for_an_option(chance: uuid.UUID) -> None:
    """Kafka's tool takes 22 characters for 16 bytes, and refuses what begins with a hyphen."""
    made = cluster_id(chance)

    assert len(made) == 22
    assert not made.startswith("-")
    assert len(base64.urlsafe_b64decode(made + "==")) == 16


def test_the_worst_chance_is_survived() -> None:
    """All bits set would begin with an underscore, 62 in the first place with a hyphen."""
    assert not cluster_id(uuid.UUID(bytes=b"\xf8" + bytes(15))).startswith("-")
