"""The Faust app: one agent that hands each telemetry record to the worker. Why each setting is as it is: see below."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, cast

import faust
from faust.auth import SASLCredentials, SSLCredentials
from faust.types import TP

from streams.consumer import Assignor, Consumer, PostgresTransport
from streams.partition import Record
from streams.worker import Worker
from streams.worker_settings import Settings

NAME: Final = "pumpwatch-streams"
FETCH_BYTES: Final = 256 * 1024
"""What is fetched ahead of each partition: more only fills memory. A larger record comes alone."""


class _App(faust.App):
    def _create_directories(self) -> None:
        """Nothing is kept in files: there are no tables."""


# Longer than forty lines: it is one list of settings, and each keeps its reason beside it.
def create_app(settings: Settings, worker: Worker) -> faust.App:
    """The app, not started; making it connects to nothing.

    The consumer group carries the topic prefix, so that systems sharing a broker do not share partitions.

    Args:
        settings: Broker, worker name and session timeout are taken from here.
        worker: Takes the records; also decides where each partition goes on. It has several transactions under
            way, so that PostgreSQL works for one while another is decided, and puts small records of all partitions
            together; Faust's ``isolated_partitions`` would restart actors at each rebalance, and can do neither.
    """
    app = _App(
        settings.topic_prefix + NAME,
        version=1,  # Part of the group id: changed only on purpose.
        broker=[f"kafka://{address.strip()}" for address in settings.kafka.split(",")],
        broker_credentials=credentials(settings),
        store="memory://",
        processing_guarantee="at_least_once",  # Faust's exactly_once loses and repeats records.
        # Kafka's committed offset is only a hint for lag tools.
        broker_commit_interval=1.0,
        broker_commit_every=2000,
        # 10 s buys a takeover within 15 s after a crash.
        broker_session_timeout=settings.worker_session_seconds,
        broker_heartbeat_interval=3,
        broker_request_timeout=40,
        broker_max_poll_interval=300,
        broker_rebalance_timeout=60,
        broker_max_poll_records=1000,
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=30_000,  # A topic that vanished and was made anew is found again; else in 5 min.
        consumer_group_instance_id=settings.worker_name or None,
        PartitionAssignor=Assignor,
        stream_buffer_maxsize=64,  # A record is up to 1,000 reports.
        stream_wait_empty=True,
        stream_recovery_delay=0,
        stream_processing_timeout=60,
        broker_commit_livelock_soft_timeout=60,
        producer_acks=-1,
        producer_request_timeout=30,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,  # It would listen on every address without asking who is there.
        worker_redirect_stdouts=False,
        cython_optimizations=False,
    )
    app.transport = PostgresTransport(app.conf.broker_consumer, app, worker.topic, worker)
    topic = app.topic(worker.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    async def telemetry(stream: Any) -> None:
        events: AsyncIterator[Any] = stream.events()
        async for event in events:
            message = event.message
            worker.offer(Record(message.partition, message.offset, message.value))

    app.agent(topic, name="telemetry", concurrency=1)(telemetry)
    _give_control(app, worker)
    return app


def credentials(settings: Settings) -> SASLCredentials | SSLCredentials | None:
    """How the app signs in to Kafka, in Faust's words."""
    context = settings.kafka_tls()
    if settings.kafka_security.signs_in:
        return SASLCredentials(
            username=settings.kafka_user,
            password=settings.kafka_password.get_secret_value(),
            ssl_context=context,
            mechanism=settings.kafka_mechanism.value,
        )
    return None if context is None else SSLCredentials(context)


def _give_control(app: faust.App, worker: Worker) -> None:
    """Let the worker say what is fetched, and from where."""

    async def seek_back(partition: int, offset: int) -> None:
        await cast(Consumer, app.consumer).seek_back(partition, offset)

    def pause(partition: int) -> None:
        app.consumer.on_buffer_full(TP(worker.topic, partition))

    def go_on(partition: int) -> None:
        app.consumer.on_buffer_drop(TP(worker.topic, partition))

    worker.seek_back, worker.pause, worker.go_on = seek_back, pause, go_on
