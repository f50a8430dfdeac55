"""quixstreams at its best, doing less: validate, and one threshold rule on state in RocksDB with a changelog.

The rule has hysteresis. No history, no database, no late evidence, no notification; an alert is one message on another
topic.
"""

from __future__ import annotations

from typing import Any, Final

from quixstreams import State

from streams.domain.telemetry import Report
from tests.benchmarks.rivals.measured import given, meter_of
from tests.benchmarks.rivals.quix import application, validated

LIMIT_ML: Final = 2.0
CLEAR_ML: Final = 3.0


def main() -> None:
    """Run until the time is over or the topic is empty."""
    settings = given()
    meter = meter_of(settings)
    app = application(settings, meter)
    reports = app.topic(settings["topic"], value_deserializer="bytes", key_deserializer="str")
    alerts = app.topic(settings["alerts"], value_serializer="json", key_serializer="str")

    def judged(report: Report, state: State[Any, Any]) -> dict[str, Any] | None:
        meter.add()
        return low_reservoir(report, state)

    frame = app.dataframe(reports).apply(validated).filter(lambda report: report is not None)
    frame.apply(judged, stateful=True).filter(lambda alert: alert is not None).to_topic(alerts)
    app.run()
    meter.print()


def low_reservoir(report: Report, state: State[Any, Any]) -> dict[str, Any] | None:
    """One threshold with hysteresis; what it remembers is the least that such a rule needs."""
    level = report.reservoir_estimated_ml
    if level is None:
        return None
    known = state.get("pump", {"open": False})
    is_open = level <= LIMIT_ML or (known["open"] and level < CLEAR_ML)
    state.set("pump", {"open": is_open, "level": level, "seq": report.seq})
    if is_open == known["open"]:
        return None
    return {"pump_id": report.pump_id, "rule": "RSV-01", "event": "opened" if is_open else "cleared"}


if __name__ == "__main__":
    main()
