"""How Kafka is reached: what settings give every client, and what cannot be meant is refused at the start."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from faust.auth import SASLCredentials, SSLCredentials
from pydantic import ValidationError

from streams.app import credentials
from streams.settings import PREFIX, CoreSettings
from streams.worker_settings import Settings
from tests.stack import ROOT

SIGNED: dict[str, Any] = {"kafka_user": "ingest", "kafka_password": "opensesame"}


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=kafka")
    command = ["openssl", "req", *subject, "-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return files


def test_without_settings_kafka_is_reached_in_the_clear() -> None:
    """As the one-machine stack reaches its broker on loopback."""
    assert CoreSettings(kafka="k:1").kafka_client() == {"bootstrap_servers": "k:1", "security_protocol": "PLAINTEXT"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_user_and_password_reach_every_client(mechanism: str) -> None:
    """The worker's app, which Faust makes, signs in as the clients of aiokafka do."""
    settings = Settings(kafka="k:1", kafka_security="SASL_SSL", kafka_mechanism=mechanism, **SIGNED)

    client, app = settings.kafka_client(), credentials(settings)

    assert (client["security_protocol"], client["sasl_mechanism"]) == ("SASL_SSL", mechanism)
    assert (client["sasl_plain_username"], client["sasl_plain_password"]) == ("ingest", "opensesame")
    assert client["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert client["ssl_context"].check_hostname
    assert isinstance(app, SASLCredentials)
    assert (app.protocol.value, app.mechanism.value) == ("SASL_SSL", mechanism)
    assert (app.username, app.password) == ("ingest", "opensesame")
    assert app.ssl_context is not None


def test_a_client_certificate_and_an_own_authority_are_used(certificate: tuple[Path, Path]) -> None:
    """Kafka may know its clients by their certificates alone."""
    mine, key = certificate
    settings = Settings(kafka_security="SSL", kafka_ca_file=mine, kafka_certificate_file=mine, kafka_key_file=key)

    assert len(settings.kafka_client()["ssl_context"].get_ca_certs()) == 1
    assert isinstance(credentials(settings), SSLCredentials)


def test_the_password_may_be_a_mounted_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every secret."""
    (tmp_path / "password").write_text("opensesame\n")
    monkeypatch.setenv(f"{PREFIX}KAFKA_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv(f"{PREFIX}KAFKA_USER", "ingest")
    monkeypatch.setenv(f"{PREFIX}KAFKA_SECURITY", "SASL_PLAINTEXT")

    assert CoreSettings().kafka_client()["sasl_plain_password"] == "opensesame"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"kafka_security": "SASL_SSL", "kafka_user": "ingest"}, "SASL_SSL needs kafka_user and kafka_password"),
        (SIGNED, "PLAINTEXT does not use kafka_user and kafka_password"),
        ({"kafka_security": "SSL", **SIGNED}, "SSL does not use kafka_user and kafka_password"),
        ({"kafka_ca_file": "/ca.pem"}, "PLAINTEXT uses no TLS"),
        ({"kafka_security": "SSL", "kafka_key_file": "/key.pem"}, "go together"),
        ({"kafka_security": "SSL", "kafka_ca_file": "/nowhere.pem"}, "kafka_ca_file cannot be used"),
        ({"kafka_security": "TLS"}, "PLAINTEXT"),
        ({"kafka_security": "SASL_SSL", "kafka_mechanism": "GSSAPI", **SIGNED}, "SCRAM-SHA-256"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], named: str) -> None:
    """A password that would not be sent is a mistake, not a detail; and no error shows it."""
    with pytest.raises(ValidationError, match=named) as caught:
        CoreSettings(**given)

    assert "opensesame" not in str(caught.value)


def test_no_client_is_made_without_these_arguments() -> None:
    """One made by its address alone would speak in the clear."""
    files = [path for name in ("services", "streams") for path in (ROOT / name).rglob("*.py")]

    found = [path.name for path in files if re.search(r"bootstrap_servers=", path.read_text(encoding="utf-8"))]

    assert found == ["kafka.py"]  # The one-machine stack asks its own broker, on loopback.
