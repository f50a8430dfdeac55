"""What a channel is, what it is given, and how it says that a person was not reached."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class DeliveryFailure(StrEnum):
    """Why a channel did not take a notification."""

    NO_ADDRESS = "no_address"
    REFUSED_ADDRESS = "refused_address"
    FORBIDDEN_ADDRESS = "forbidden_address"
    BAD_SECRET = "bad_secret"  # noqa: S105 -- the name of a failure, not a secret
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    CONNECTION_LOST = "connection_lost"
    TRY_LATER = "try_later"
    REFUSED = "refused"
    UNEXPECTED = "unexpected"


class DeliveryError(Exception):
    """A notification did not reach its channel.

    ``unknown`` means that the channel may have taken it: the next try is then a possible repeat.
    """

    def __init__(self, channel: str, reason: DeliveryFailure, *, retryable: bool, unknown: bool = False) -> None:
        super().__init__(f"cannot deliver through {channel}: {reason}")
        self.channel, self.reason, self.retryable, self.unknown = channel, reason, retryable, unknown


@dataclass(frozen=True, slots=True)
class Notice:
    """All that a message may say. There is no name, drug, diagnosis or pump in it, so none can get out.

    ``thread_id`` is the alert with which the thread of messages began. ``correction``: the alert was taken back, and
    this person had been told of it. ``continues`` is the number of the alert that was taken back and whose thread this
    one goes on with; ``taken_over``: this message says so to somebody who had been told of that one.
    """

    notification_id: UUID
    alert_id: UUID
    number: int
    priority: str
    site: str
    raised_at: datetime
    step: int
    repeat: bool
    thread_id: UUID
    correction: bool = False
    continues: int | None = None
    taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a person is reached; only what the channel needs is set."""

    email: str | None
    webhook_url: str | None
    webhook_secret: str | None


class Channel(Protocol):
    """A way to reach a person.

    It need not be idempotent: the same ``notification_id`` is given again after an unknown outcome, and the receiving
    side may use it to drop the repeat.
    """

    async def send(self, notice: Notice, address: Address) -> None:
        """Return once the other side has taken the message.

        Raises:
            DeliveryError: If it did not, or if that is unknown.
        """
        ...
