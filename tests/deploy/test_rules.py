"""Every alert for operators has a severity, words, a runbook and a test; Prometheus' own tool checks the rest."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.ingest.metrics import Metrics as IngestMetrics
from services.ingest.metrics import RequestOutcome, Transport
from services.notify.metrics import Metrics as NotifyMetrics
from services.watchdog.metrics import Metrics as WatchdogMetrics
from services.web.metrics import Metrics as WebMetrics
from streams.metrics import Metrics as WorkerMetrics
from tests.deploy.files import RULE_TESTS, RULES, RUNBOOKS, SCRAPE, alerts

SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
ALERTS = {alert["alert"]: alert for alert in alerts()}


@pytest.mark.parametrize(
    "arguments", [("check", "rules", RULES), ("check", "config", SCRAPE), ("test", "rules", RULE_TESTS)], ids=str
)
def test_promtool_agrees(arguments: tuple[str | Path, ...]) -> None:
    """The rule file, the scrape file, and what the rules fire on."""
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=RULES.parent
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.parametrize("alert", ALERTS.values(), ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    """Severity, summary, description, and the page of its own name."""
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"deploy/runbooks/{alert['alert']}.md"


def test_each_alert_has_one_runbook_and_each_runbook_one_alert() -> None:
    """Neither an alert without advice nor advice for an alert that is gone."""
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_a_runbook_has_its_four_sections(page: Path) -> None:
    """In order, none empty."""
    text = page.read_text(encoding="utf-8")
    title, *sections = re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]

    assert title.strip() == page.stem
    assert [section.partition("\n")[0] for section in sections] == SECTIONS
    assert all(len(section.partition("\n")[2].strip()) > 20 for section in sections)


def test_every_alert_is_made_to_fire_in_a_test() -> None:
    """Promtool runs the tests, but does not notice a rule without one."""
    fired = set(re.findall(r"""alertname(?:=|: )"?(Pumpwatch\w+)""", RULE_TESTS.read_text(encoding="utf-8")))

    assert fired - {"PumpwatchWatchdog"} == set(ALERTS) - {"PumpwatchWatchdog"}


def test_the_watchdog_always_fires() -> None:
    """Its condition depends on nothing, so its silence means that alerting is broken."""
    assert ALERTS["PumpwatchWatchdog"]["expr"] == "vector(1)"
    assert "for" not in ALERTS["PumpwatchWatchdog"]


def test_refusals_are_named_as_ingest_names_them() -> None:
    """A renamed outcome would silence the alert."""
    named = re.search(r'outcome=~"([^"]+)"', ALERTS["PumpwatchIngestRefusing"]["expr"])

    assert named is not None
    assert set(named[1].split("|")) <= set(RequestOutcome)


def test_a_report_refused_over_http_is_told_and_no_dead_letter() -> None:
    """Both edges count what they refuse; only Kafka's keeps it, and that is told by another alert."""
    told = set(re.findall(r'transport="(\w+)"', ALERTS["PumpwatchReportsRefused"]["expr"]))

    assert told == {Transport.HTTP.value}


def test_no_metric_means_two_things() -> None:
    """What two processes export under one name, rules and dashboard add up: only what both count in the same sense."""
    registries = (IngestMetrics(), WorkerMetrics(), NotifyMetrics(), WebMetrics(), WatchdogMetrics())
    exported = Counter(family.name for metrics in registries for family in metrics.registry.collect())

    shared = {name for name, processes in exported.items() if processes > 1}

    assert shared == {"pumpwatch_dead_letter", "pumpwatch_batch_reports", "pumpwatch_alert_latency_seconds"}
