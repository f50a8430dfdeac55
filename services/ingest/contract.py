"""The published contract of the edges, generated from the types: OpenAPI, AsyncAPI and the report's JSON Schema.

``python -m services.ingest.contract --write`` renews the files; without ``--write`` it says which ones differ.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from services.ingest.intake import MAX_REPORTS, Form
from services.ingest.judging import Reason
from services.ingest.problems import MEANING, MEDIA_TYPE, TYPE_PREFIX, Kind
from services.ingest.settings import Settings
from streams import topics
from streams.domain.alert import AlertEventKind
from streams.domain.telemetry import MAX_REPORT_BYTES, json_schema

FOLDER: Final = Path(__file__).resolve().parent
OPENAPI: Final = FOLDER / "openapi.json"
ASYNCAPI: Final = FOLDER / "asyncapi.yaml"
REPORT_SCHEMA: Final = FOLDER / "report.schema.json"
VERSION: Final = "1.0.0"

_RETRYABLE: Final = (408, 429, 503)


def report_schema() -> dict[str, Any]:
    """The JSON Schema of a report (draft 2020-12)."""
    return {**json_schema(), "title": "Report", "description": "What one pump said at one moment."}


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 description of the HTTP edge."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pumpwatch ingest",
            "version": VERSION,
            "description": "Takes what pumps report through their gateways. A 202 means that the accepted reports are "
            "kept by Kafka on all in-sync replicas; anything else means that the request may be sent again.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/reports": {"post": _post_reports()},
            "/v1/openapi.json": {"get": _document("openapi", "This description", "application/json")},
            "/v1/schema/report.json": {
                "get": _document("reportSchema", "The JSON Schema of a report", "application/schema+json")
            },
        },
        "components": {
            "schemas": {**_definitions(), "Accepted": _accepted(), "Rejection": _rejection(), "Problem": _problem()},
            "securitySchemes": {
                "gateway": {"type": "http", "scheme": "bearer", "description": "The token of one gateway."}
            },
        },
    }


def _definitions() -> dict[str, Any]:
    """Report and its parts, with references as OpenAPI keeps schemas."""
    schema = _moved(report_schema())
    schema.pop("$schema")
    parts = schema.pop("$defs")
    return {"Report": schema, **parts}


def _moved(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {name: _moved_reference(value) if name == "$ref" else _moved(value) for name, value in node.items()}
    return [_moved(item) for item in node] if isinstance(node, list) else node


def _moved_reference(reference: str) -> str:
    return reference.replace("#/$defs/", "#/components/schemas/")


def _post_reports() -> dict[str, Any]:
    several = {
        "type": "array",
        "items": {"$ref": "#/components/schemas/Report"},
        "minItems": 1,
        "maxItems": MAX_REPORTS,
    }
    caps = Settings.model_fields
    return {
        "operationId": "postReports",
        "summary": "Hand in one report, an array, or NDJSON",
        "description": f"At most {caps['ingest_body_bytes'].default} bytes as sent, "
        f"{caps['ingest_unpacked_bytes'].default} unpacked, {MAX_REPORTS} reports of {MAX_REPORT_BYTES} bytes each. "
        "A syntax error refuses the request, in NDJSON only its line. Reports are told apart by pump_id, boot_id and "
        "seq: sending one again changes nothing.",
        "security": [{"gateway": []}],
        "parameters": [
            {
                "name": "Content-Encoding",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "enum": ["identity", "gzip"]},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                Form.JSON.value: {"schema": {"oneOf": [{"$ref": "#/components/schemas/Report"}, several]}},
                Form.LINES.value: {"schema": {"type": "string", "description": "One report per line."}},
            },
        },
        "responses": {
            "202": {
                "description": "Kafka has acknowledged every accepted report.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Accepted"}}},
            },
            **_problem_responses(),
        },
    }


_NOT_FOR_REPORTS: Final = frozenset({Kind.NOT_FOUND, Kind.METHOD_NOT_ALLOWED, Kind.INTERNAL})


def _problem_responses() -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for kind, (status, title) in sorted(MEANING.items(), key=lambda entry: entry[1][0]):
        if kind not in _NOT_FOR_REPORTS:
            response = responses.setdefault(str(int(status)), _problem_response(int(status)))
            response["description"] += f"{'; ' if response['description'] else ''}`{kind.value}`: {title}"
    return responses


def _problem_response(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": "",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in _RETRYABLE:
        response["headers"] = {
            "Retry-After": {"description": "Whole seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        }
    return response


def _document(operation: str, summary: str, media_type: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": {"description": summary, "content": {media_type: {"schema": {"type": "object"}}}}},
    }


def _accepted() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "accepted": {"type": "integer", "minimum": 1, "maximum": MAX_REPORTS},
            "rejected": {"type": "array", "items": {"$ref": "#/components/schemas/Rejection"}},
        },
        "required": ["accepted", "rejected"],
    }


def _rejection() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "index": {
                "type": "integer",
                "minimum": 0,
                "description": "Place of the report in the request; in NDJSON blank lines do not count.",
            },
            "pointer": {"type": "string", "description": "RFC 6901 path of the first offending field in the report."},
            "reason": {"type": "string", "enum": [reason.value for reason in Reason]},
            "detail": {"type": "string", "description": "For people; never a value from the report."},
        },
        "required": ["index", "pointer", "reason", "detail"],
    }


def _problem() -> dict[str, Any]:
    return {
        "description": "RFC 9457 problem document.",
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": [TYPE_PREFIX + kind.value for kind in Kind]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "pointer": {"type": "string", "description": "Of the first offending report: within it when it is the "
                        "only one, else behind its place in the request."},
            "rejected": {"type": "array", "items": {"$ref": "#/components/schemas/Rejection"}},
        },
        "required": ["type", "title", "status", "detail"],
    }  # fmt: skip


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 description of the Kafka edges."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Pumpwatch topics",
            "version": VERSION,
            "description": "Topics that others write to or read from. Topics between the parts are not a contract.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "reports": _channel(topics.REPORTS, "report", "One report per record, key pump_id."),
            "alerts": _channel(topics.ALERTS, "alertEvent", "Every alert event, key pump_id."),
            "deadLetters": _channel(topics.DEAD_LETTERS, "deadLetter", "Original bytes of what could not be used."),
        },
        "operations": {
            "takeReports": _operation("receive", "reports", "report"),
            "tellAlerts": _operation("send", "alerts", "alertEvent"),
            "putAside": _operation("send", "deadLetters", "deadLetter"),
        },
        "components": {
            "schemas": {name: copy.deepcopy(schema) for name, schema in _definitions().items()},
            "messages": {"report": _report_message(), "alertEvent": _alert_message(), "deadLetter": _letter_message()},
        },
    }


def _channel(topic: topics.Topic, message: str, text: str) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": text,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions or topics.DEFAULT_PARTITIONS,
                "replicas": Settings.model_fields["replication_factor"].default,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": int(topic.retention.total_seconds() * 1000),
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operation(action: str, channel: str, message: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _report_message() -> dict[str, Any]:
    return {
        "title": "Report",
        "contentType": "application/json",
        "payload": {"$ref": "#/components/schemas/Report"},
        "bindings": {"kafka": {"key": {"type": "string", "description": "pump_id"}, "bindingVersion": "0.5.0"}},
    }


def _alert_message() -> dict[str, Any]:
    types = [f"pumpwatch.alert.{kind.value}.v1" for kind in AlertEventKind]
    headers = {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "description": "Idempotency key."},
        "ce_type": {"type": "string", "enum": types},
        "ce_source": {"const": "pumpwatch"},
        "ce_subject": {"type": "string", "format": "uuid", "description": "The alert."},
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"type": "string"},
    }
    return {
        "title": "Alert event, CloudEvents in binary mode",
        "contentType": "application/json",
        "headers": {"type": "object", "properties": headers, "required": ["ce_id", "ce_type", "ce_source"]},
        "payload": {"type": "object"},
        "bindings": {"kafka": {"key": {"type": "string", "description": "pump_id"}, "bindingVersion": "0.5.0"}},
    }


def _letter_message() -> dict[str, Any]:
    names = ("origin_topic", "origin_partition", "origin_offset", "reason", "error", "schema_version", "app_version")
    cut = ("full_value_bytes", "full_value_sha256", "full_key_bytes", "full_key_sha256")
    others = ("recorded_at", "origin_index", "origin_timestamp", "edge", *cut)
    headers = {name: {"type": "string"} for name in (*names, *others)}
    return {
        "title": "Dead letter",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "properties": headers, "required": [*names, "recorded_at"]},
        "payload": {"type": "string", "format": "binary", "description": "As it came; may hold what is no report."},
    }


def documents() -> dict[Path, str]:
    """The text of each published file."""
    return {
        OPENAPI: json.dumps(openapi(), indent=1) + "\n",
        ASYNCAPI: yaml.safe_dump(asyncapi(), sort_keys=False, width=120),
        REPORT_SCHEMA: json.dumps(report_schema(), indent=1) + "\n",
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or compare them; 1 when one differs."""
    parser = argparse.ArgumentParser(prog="python -m services.ingest.contract", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the files")
    write = parser.parse_args(arguments).write
    differing = [
        path for path, text in documents().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in differing:
        if write:
            path.write_text(documents()[path], encoding="utf-8")
        sys.stdout.write(f"{path.name} {'written' if write else 'differs from the types'}\n")
    return int(bool(differing) and not write)


if __name__ == "__main__":
    sys.exit(main())
