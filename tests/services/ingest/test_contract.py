"""The published descriptions are the code's, and well formed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.ingest import contract
from services.ingest.problems import MEANING, Kind
from tests.services.ingest.bad_inputs import report
from tests.services.ingest.edge import NOON, Edge

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OPENAPI = json.loads(contract.OPENAPI.read_text())
ASYNCAPI = yaml.safe_load(contract.ASYNCAPI.read_text())


@pytest.mark.parametrize("path", list(contract.documents()), ids=lambda path: path.name)
def test_published_file_is_what_the_types_say(path: Path) -> None:
    """``python -m services.ingest.contract --write`` renews it."""
    assert path.read_text(encoding="utf-8") == contract.documents()[path]


def test_the_check_names_what_differs_and_write_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 names the file; after writing there is nothing left to say."""
    path = tmp_path / "openapi.json"
    monkeypatch.setattr(contract, "documents", lambda: {path: "{}\n"})

    assert contract.main([]) == 1
    assert "openapi.json differs" in capsys.readouterr().out
    assert contract.main(["--write"]) == 0
    assert contract.main([]) == 0


@pytest.mark.parametrize("document", [OPENAPI, ASYNCAPI], ids=["openapi", "asyncapi"])
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """A broken reference would only show in a client's generator."""
    references = list(_references(document))

    assert references
    for reference in references:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert isinstance(node, Mapping)


def test_openapi_has_the_required_shape() -> None:
    """OpenAPI 3.1: info, paths, operations with unique ids and responses with descriptions."""
    operations = [
        operation for path in OPENAPI["paths"].values() for method, operation in path.items() if method in METHODS
    ]

    assert OPENAPI["openapi"].startswith("3.1.")
    assert {"title", "version"} <= OPENAPI["info"].keys()
    assert all(path.startswith("/v1/") for path in OPENAPI["paths"])
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert all(code.isdigit() and answer["description"] for code, answer in operation["responses"].items())


def test_every_status_of_the_reports_edge_is_documented() -> None:
    """Each problem that a sender of reports can get stands under its status, with Retry-After where it may return."""
    responses = OPENAPI["paths"]["/v1/reports"]["post"]["responses"]

    for kind, (status, _) in MEANING.items():
        if kind not in (Kind.NOT_FOUND, Kind.METHOD_NOT_ALLOWED, Kind.INTERNAL):
            assert f"`{kind.value}`" in responses[str(int(status))]["description"]
    assert all("Retry-After" in responses[code]["headers"] for code in ("429", "503"))


def test_asyncapi_has_the_required_shape() -> None:
    """AsyncAPI 3.0: channels with an address and Kafka binding, operations on channels."""
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert {channel["address"] for channel in ASYNCAPI["channels"].values()} == {
        "pump.reports.v1",
        "pump.alerts.v1",
        "pump.dead-letters.v1",
    }
    for channel in ASYNCAPI["channels"].values():
        assert channel["bindings"]["kafka"]["bindingVersion"] == "0.5.0"
        assert channel["messages"]
    for operation in ASYNCAPI["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["channel"]["$ref"].startswith("#/channels/")


@pytest.mark.parametrize(
    ("path", "content", "media_type"),
    [
        ("/v1/openapi.json", contract.OPENAPI.read_bytes(), "application/json"),
        ("/v1/schema/report.json", contract.REPORT_SCHEMA.read_bytes(), "application/schema+json"),
    ],
    ids=["openapi", "report schema"],
)
async def test_descriptions_are_served_without_a_token(path: str, content: bytes, media_type: str) -> None:
    """Who writes a gateway can read what to send."""
    response = await Edge().client.get(path)

    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    assert response.content == content


async def test_answers_have_the_described_fields() -> None:
    """What is really answered fits what the description requires."""
    edge, schemas = Edge(), OPENAPI["components"]["schemas"]

    accepted = (await edge.post([report(NOON), {}])).json()
    problem = (await edge.post([{}])).json()

    assert set(schemas["Accepted"]["required"]) == accepted.keys()
    assert set(schemas["Rejection"]["required"]) == accepted["rejected"][0].keys()
    assert accepted["rejected"][0]["reason"] in schemas["Rejection"]["properties"]["reason"]["enum"]
    assert set(schemas["Problem"]["required"]) <= problem.keys() <= set(schemas["Problem"]["properties"])
    assert problem["type"] in schemas["Problem"]["properties"]["type"]["enum"]


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)
