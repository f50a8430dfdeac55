"""A quixstreams application tuned for throughput, whose commits are seen and which stops when its meter says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from quixstreams import Application
from quixstreams.state.rocksdb.options import RocksDBOptions

from streams.domain.telemetry import Rejected, Report, validate
from tests.benchmarks.rivals.measured import Meter

COMMIT_SECONDS: Final = 5.0
COMMIT_RECORDS: Final = 10_000


def application(settings: dict[str, Any], meter: Meter) -> Application:
    """The application, not yet running; the meter learns of each checkpoint that became durable."""
    app = Application(
        broker_address=settings["kafka"],
        consumer_group=settings["group"],
        auto_offset_reset="earliest",
        state_dir=settings["state"],
        commit_interval=COMMIT_SECONDS,
        commit_every=COMMIT_RECORDS,
        # The changelog topic is what makes state durable; fsync of the local copy would only slow it down.
        rocksdb_options=RocksDBOptions(use_fsync=False),
        producer_extra_config={"linger.ms": 20, "compression.type": "lz4"},
        loglevel="ERROR",
    )
    context = app._processing_context  # quixstreams has no public word for "committed".
    commit = context.commit_checkpoint

    def seen(*args: Any, **kwargs: Any) -> None:
        before = context.checkpoint
        commit(*args, **kwargs)
        if context.checkpoint is not before:
            meter.committed()
            if meter.over:
                app.stop()

    context.commit_checkpoint = seen  # type: ignore[method-assign]
    return app


def validated(raw: bytes) -> Report | None:
    """The same validation as ours."""
    report = validate(raw, datetime.now(UTC))
    return None if isinstance(report, Rejected) else report
