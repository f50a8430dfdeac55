"""The dashboard *Operations*, by its structure; `test_running_stack` runs its queries."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from typing import Any

from tests.deploy.files import DEPLOY, dashboard, queries, read

PANELS: list[dict[str, Any]] = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def test_it_can_be_provisioned_anywhere() -> None:
    """A fixed uid, data sources as variables, and nothing that only an import would fill in."""
    board = dashboard()
    variables = {variable["name"]: variable["query"] for variable in board["templating"]["list"]}

    assert board["uid"] == "pumpwatch-operations"
    assert variables == {"datasource": "prometheus", "history": "grafana-postgresql-datasource"}
    assert "__inputs" not in board
    assert "id" not in board


def test_its_variables_start_with_the_provisioned_sources() -> None:
    """So that it shows data without a choice being made."""
    sources = {
        source["uid"]: source
        for source in read(DEPLOY / "grafana/provisioning/datasources/pumpwatch.yaml")["datasources"]
    }
    current = {variable["current"]["value"]: variable["query"] for variable in dashboard()["templating"]["list"]}

    assert {uid: source["type"] for uid, source in sources.items()} == current
    assert sources["pumpwatch-postgres"]["user"] == "pumpwatch_read"


def test_every_panel_names_itself_its_source_and_its_unit() -> None:
    """Titles and ids are unique; a panel's queries go to the panel's own source."""
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    assert max(Counter(panel["title"] for panel in PANELS).values()) == 1
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] in {"${datasource}", "${history}"}
        assert [target["datasource"] for target in panel["targets"]] == [panel["datasource"]] * len(panel["targets"])
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_do_not_overlap() -> None:
    """Each has its own place on 24 columns."""

    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        rows, columns = range(place["y"], place["y"] + place["h"]), range(place["x"], place["x"] + place["w"])
        return {(row, column) for row in rows for column in columns}

    overlapping = [
        (first["title"], second["title"])
        for first, second in combinations(dashboard()["panels"], 2)
        if cells(first) & cells(second)
    ]

    assert overlapping == []
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_sql_reads_only_the_stable_views() -> None:
    """Tables may change; the views are the contract, and the role sees nothing else."""
    sql = " ".join(query.text for query in queries() if query.language == "sql")
    sources = re.findall(r"(?<!epoch )\b(?:FROM|JOIN) (\w+)", sql)

    assert sources
    assert [source for source in sources if not source.startswith("v_")] == []
