"""The compose file starts the whole system in order, keeps its data, and runs nothing of ours as root."""

from __future__ import annotations

import re
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.ingest.settings import Settings as IngestSettings
from services.notify.settings import Settings as NotifySettings
from services.watchdog.settings import Settings as WatchdogSettings
from services.web.settings import Settings as WebSettings
from streams.settings import PREFIX, CoreSettings
from streams.worker_settings import Settings as WorkerSettings
from tests.deploy.files import DEPLOY, read
from tests.stack import ROOT

OURS: dict[str, type[CoreSettings]] = {
    "ingest": IngestSettings,
    "worker": WorkerSettings,
    "notify": NotifySettings,
    "web": WebSettings,
}
ONCE = {"migrate", "topics"}
COMPOSE = read(DEPLOY / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
WATCHDOG: dict[str, Any] = read(DEPLOY / "watchdog.yaml")["services"]["watchdog"]
"""On a host of its own, and so in a file of its own."""
EVERY = {**SERVICES, "watchdog": WATCHDOG}
EXAMPLE = (DEPLOY / ".env.example").read_text(encoding="utf-8")


def test_the_whole_system_is_there_and_the_file_names_no_version() -> None:
    """Current compose files have no ``version``."""
    assert set(SERVICES) == {"postgres", "kafka", *ONCE, *OURS, "prometheus", "grafana"}
    assert "version" not in COMPOSE


@pytest.mark.parametrize("name", sorted(set(EVERY) - ONCE))
def test_every_lasting_service_tells_whether_it_is_healthy(name: str) -> None:
    """Without a health check nothing can wait for it."""
    assert EVERY[name]["healthcheck"]["test"][0] == "CMD"
    assert EVERY[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_services_wait_for_what_they_need(name: str) -> None:
    """Kafka and PostgreSQL are healthy, and schema and topics are there."""
    assert SERVICES[name]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "kafka": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
        "topics": {"condition": "service_completed_successfully"},
    }


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_health_check_asks_the_port_of_its_own_service(name: str) -> None:
    """The default metrics port of the settings is the one asked, and the one that Prometheus scrapes."""
    port = OURS[name].model_fields[f"{name}_metrics_port"].default

    scraped = read(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"][0]["static_configs"]

    assert f"http://127.0.0.1:{port}/readyz" in SERVICES[name]["healthcheck"]["test"][-1]
    assert {"targets": [f"{name}:{port}"], "labels": {"service": name}} in scraped


@pytest.mark.parametrize("name", sorted({*ONCE, *OURS, "watchdog"}))
def test_our_containers_have_no_rights_to_spare(name: str) -> None:
    """Read-only, no capabilities, no way to gain any; and the image's user is not root."""
    service = EVERY[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r"^USER 10001:10001$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ["postgres", "kafka", "prometheus", "grafana"])
def test_images_of_others_are_pinned_and_their_data_has_a_named_volume(name: str) -> None:
    """A tag with a version, and a volume that survives the container."""
    image, volumes = SERVICES[name]["image"], SERVICES[name]["volumes"]

    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image)
    assert any(volume.split(":")[0] in COMPOSE["volumes"] for volume in volumes)


def test_observability_is_a_choice() -> None:
    """Only Prometheus and Grafana belong to the profile."""
    chosen = {name for name, service in SERVICES.items() if "observability" in service.get("profiles", [])}

    assert chosen == {"prometheus", "grafana"}


def test_nothing_is_published_beyond_this_host_by_default() -> None:
    """Who opens a port to the network decides so in .env."""
    published = [port for service in EVERY.values() for port in service.get("ports", [])]

    assert published
    assert all(re.fullmatch(r"\$\{PUMPWATCH_[A-Z_]+_PUBLISH:-127\.0\.0\.1:\d+\}:\d+", port) for port in published)


def test_every_variable_is_in_the_example_and_no_secret_has_a_default() -> None:
    """The example lists exactly what the files read; secrets in it are empty."""
    files = [(DEPLOY / name).read_text() for name in ("compose.yaml", "watchdog.yaml")]
    used = {name for text in files for name in re.findall(r"\$\{([A-Z_]+)", text)}
    used |= {
        key for service in EVERY.values() for key, value in service.get("environment", {}).items() if value is None
    }
    listed = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))

    assert set(listed) == used
    secret = re.compile("PASSWORD|TOKEN|SECRET")
    assert {name: value for name, value in listed.items() if secret.search(name) and value} == {}


@pytest.mark.parametrize(("name", "settings"), sorted({**OURS, "watchdog": WatchdogSettings}.items()))
def test_every_setting_of_a_service_exists(name: str, settings: type[CoreSettings]) -> None:
    """A misspelt variable would be ignored in silence."""
    known = {f"{PREFIX}{field.upper()}" for field in settings.model_fields}
    given = {key for key in EVERY[name]["environment"] if key.startswith(PREFIX)}

    assert given
    assert given <= known


def test_the_watchdog_is_asked_and_paged_on_its_own_ports() -> None:
    """The health check asks the metrics port, and what is published is where notify delivers and Prometheus scrapes."""
    health, receiver = (
        WatchdogSettings.model_fields[f"watchdog_{name}_port"].default for name in ("metrics", "receiver")
    )

    assert f"http://127.0.0.1:{health}/livez" in WATCHDOG["healthcheck"]["test"][-1]
    assert [port.rpartition(":")[2] for port in WATCHDOG["ports"]] == [str(receiver), str(health)]


def test_prometheus_scrapes_the_watchdog_on_its_own_host() -> None:
    """By a name that the compose file gives to that host's address."""
    port = WatchdogSettings.model_fields["watchdog_metrics_port"].default
    scraped = read(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"][0]["static_configs"]

    assert {"targets": [f"watchdog:{port}"], "labels": {"service": "watchdog"}} in scraped
    assert SERVICES["prometheus"]["extra_hosts"] == ["watchdog:${PUMPWATCH_WATCHDOG_ADDRESS:-127.0.0.1}"]


@pytest.mark.parametrize("name", sorted(ONCE))
def test_what_runs_once_is_a_command_that_exists(name: str) -> None:
    """The command line answers with its help."""
    words = SERVICES[name]["command"][1:]

    answer = CliRunner().invoke(app, [*words, "--help"])

    assert answer.exit_code == 0
    assert SERVICES[name]["restart"] == "no"


def test_the_image_installs_only_what_the_lock_names() -> None:
    """Hashes are required, and the project itself is installed without resolving anything."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    installs = re.findall(r"pip install (.*)", dockerfile)

    assert [line.startswith(("--require-hashes", "--no-deps --no-build-isolation")) for line in installs] == [
        True,
        True,
    ]
    assert len(re.findall(r"^FROM \S+:\d\S*", dockerfile, re.MULTILINE)) == 2


def test_the_image_copies_only_what_the_ignore_file_admits() -> None:
    """A folder that is copied but ignored would fail the build; one admitted but not copied would bloat its context."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    admitted = re.findall(r"^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)

    assert copied == set(admitted)
    assert all((ROOT / name).exists() for name in copied)
