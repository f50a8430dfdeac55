"""The files of ``deploy/`` as tests read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.stack import ROOT

DEPLOY: Final = ROOT / "deploy"
RULES: Final = DEPLOY / "prometheus" / "rules.yml"
RULE_TESTS: Final = DEPLOY / "prometheus" / "rules_test.yml"
SCRAPE: Final = DEPLOY / "prometheus" / "prometheus.yml"
DASHBOARD: Final = DEPLOY / "grafana" / "dashboards" / "operations.json"
RUNBOOKS: Final = DEPLOY / "runbooks"
_METRIC: Final = re.compile(r"\b(?:pumpwatch|process)_[a-z_]+\b|\bup\b")


def read(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alerts() -> list[dict[str, Any]]:
    """Every alert of the rule file."""
    return [rule for group in read(RULES)["groups"] for rule in group["rules"]]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of the dashboard; ``language`` is ``promql`` or ``sql``."""

    panel: str
    language: str
    text: str


def dashboard() -> dict[str, Any]:
    """The dashboard *Operations*."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def queries() -> Iterator[Query]:
    """Every query of the dashboard."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            if "expr" in target:
                yield Query(panel["title"], "promql", target["expr"])
            else:
                yield Query(panel["title"], "sql", target["rawSql"])


def metric_names(expression: str) -> set[str]:
    """Names of metrics in a PromQL expression; words inside quotes and label lists do not look like one."""
    return set(_METRIC.findall(re.sub(r'"[^"]*"', '""', expression)))
