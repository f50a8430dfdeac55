"""Makes every topic as `streams.topics` describes it, and refuses topics that would lose or reorder records."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streams import topics
from streams.settings import CoreSettings

TIMEOUT_MS: Final = 30_000
POLL_SECONDS: Final = 0.1
SAFE_COPIES: Final = 3
# A record's key, headers and framing come on top of the batch itself.
MAX_MESSAGE_BYTES: Final = topics.MAX_RECORD_BYTES + 1024 * 1024


class UnsafeTopic(Exception):
    """A topic is, or would be, set up so that accepted reports could be lost."""


async def provision(settings: CoreSettings) -> tuple[str, ...]:
    """Make the topics that are missing and check the others; safe to run again.

    Returns:
        Names of the topics made now.

    Raises:
        UnsafeTopic: Replication below 3 outside development, another number of partitions, or a compacted topic.
        KafkaError: If the broker does not answer or refuses.
    """
    if settings.replication_factor < SAFE_COPIES and not settings.development:
        raise UnsafeTopic(
            f"replication factor {settings.replication_factor} loses accepted reports with one disk; "
            f"set PUMPWATCH_REPLICATION_FACTOR to {SAFE_COPIES}, or PUMPWATCH_DEVELOPMENT on a machine for trying out"
        )
    admin = AIOKafkaAdminClient(**settings.kafka_client(), request_timeout_ms=TIMEOUT_MS)
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics.ALL if settings.topic(topic.name) not in existing]
        await _create(admin, [_new_topic(topic, settings) for topic in missing])
        await _check(admin, settings)
    finally:
        await admin.close()
    return tuple(settings.topic(topic.name) for topic in missing)


def _new_topic(topic: topics.Topic, settings: CoreSettings) -> NewTopic:
    return NewTopic(
        name=settings.topic(topic.name),
        num_partitions=topic.partitions or settings.partitions,
        replication_factor=settings.replication_factor,
        topic_configs={
            "cleanup.policy": "delete",
            "retention.ms": str(int(topic.retention.total_seconds() * 1000)),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "min.insync.replicas": "2" if settings.replication_factor >= SAFE_COPIES else "1",
            "unclean.leader.election.enable": "false",
        },
    )


async def _create(admin: AIOKafkaAdminClient, wanted: list[NewTopic]) -> None:
    if not wanted:
        return
    answer = await admin.create_topics(wanted, timeout_ms=TIMEOUT_MS)
    for name, code, message in answer.topic_errors:
        error: type[KafkaError] = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # Another process may provision at the same time.
            raise error(f"cannot make topic {name}: {message or error.description}")
        structlog.get_logger().info("topic made", topic=name)


async def _check(admin: AIOKafkaAdminClient, settings: CoreSettings) -> None:
    wanted = {settings.topic(topic.name): topic.partitions or settings.partitions for topic in topics.ALL}
    for found in await _described(admin, list(wanted)):
        name, partitions = found["topic"], len(found["partitions"])
        if partitions != wanted[name]:
            raise UnsafeTopic(
                f"topic {name} has {partitions} partitions where {wanted[name]} are set: pumps would move between "
                "partitions; drain it and make it anew, or set PUMPWATCH_PARTITIONS"
            )
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs={"cleanup.policy": ""}) for name in wanted]
    for answer in await admin.describe_configs(resources):
        for code, message, _, name, entries in answer.resources:
            if code:
                raise for_code(code)(f"cannot check topic {name}: {message}")
            _check_policy(name, entries)


async def _described(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    """Every topic as the broker knows it, which may take a moment after it was made."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while True:
        found: list[dict[str, Any]] = await admin.describe_topics(names)
        unknown = {entry["topic"]: entry["error_code"] for entry in found if entry["error_code"]}
        if not unknown:
            return found
        if time.monotonic() > deadline:
            raise for_code(min(unknown.values()))(f"cannot check the topics {', '.join(sorted(unknown))}")
        await asyncio.sleep(POLL_SECONDS)


def _check_policy(name: str, entries: list[tuple[Any, ...]]) -> None:
    policies = {entry[0]: entry[1] for entry in entries}
    if policies.get("cleanup.policy", "delete") != "delete":
        raise UnsafeTopic(f"topic {name} is compacted; a gap in its offsets would look like a lost record")
