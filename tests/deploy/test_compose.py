"""The compose file: valid, complete, and speaking of what exists."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from audience_core.settings import CoreSettings
from audience_indexer.settings import IndexerSettings
from audience_stream.healthcheck import PORTS
from ingest_gateway.settings import GatewaySettings
from membership_worker.settings import WorkerSettings
from segment_api.settings import ApiSettings
from tests.deploy.conftest import DEPLOY, missing

COMPOSE = DEPLOY / "compose" / "compose.yaml"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = {*PORTS, "topics"}


def compose() -> list[str]:
    """The command Docker Compose, as a program of its own or as Docker's plugin; neither needs an engine to read."""
    if found := shutil.which("docker-compose"):
        return [found]
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    return missing("Docker Compose")


def test_the_schema_of_compose_files_finds_nothing_wrong() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    answer = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout


def test_docker_compose_reads_it_and_insists_on_secrets() -> None:
    asked = [*compose(), "-f", str(COMPOSE), "--env-file", os.devnull, "config", "--quiet"]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    answer = subprocess.run(asked, env=bare, capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert ".env.example" in answer.stderr
    secrets = {"AUDIENCE_PEPPER": "p", "AUDIENCE_ADMIN_TOKEN": "t", "GRAFANA_PASSWORD": "g"}
    answer = subprocess.run(asked, env=bare | secrets, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_every_part_of_the_system_is_there() -> None:
    assert set(SERVICES) == OURS | {"kafka", "redis", "prometheus", "alertmanager", "grafana"}


def test_every_service_waits_for_what_it_needs_and_that_has_a_health_check() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] in {"service_healthy", "service_completed_successfully"}
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed], f"{name} waits for {needed}"
            else:
                assert SERVICES[needed]["restart"] == "on-failure"
    for name in PORTS:
        assert set(SERVICES[name]["depends_on"]) == {"kafka", "redis", "topics"}
        assert "healthcheck" not in SERVICES[name], "the image has it"


def test_our_services_are_closed_in_as_in_kubernetes() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["command"] == (["topics", "create"] if name == "topics" else [name])
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_every_variable_is_a_setting() -> None:
    kinds: list[type[CoreSettings]] = [CoreSettings, GatewaySettings, WorkerSettings, IndexerSettings, ApiSettings]
    known = {f"AUDIENCE_{name.upper()}" for kind in kinds for name in kind.model_fields}
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known


def test_a_service_gets_only_the_secrets_that_it_uses() -> None:
    secrets = {"AUDIENCE_PEPPER", "AUDIENCE_ADMIN_TOKEN"}
    assert {name: secrets & set(SERVICES[name]["environment"]) for name in OURS} == {
        "gateway": {"AUDIENCE_PEPPER"},
        "api": {"AUDIENCE_PEPPER", "AUDIENCE_ADMIN_TOKEN"},
        "worker": set(),
        "indexer": set(),
        "topics": set(),
    }


def test_no_secret_is_in_the_file_and_the_example_names_each_without_a_value() -> None:
    asked = set()
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if any(word in variable for word in ("PEPPER", "TOKEN", "PASSWORD")):
                assert value.startswith("${")
                assert ":?" in value, "there is no default"
                asked.add(value[2:].split(":")[0])
    example = (COMPOSE.parent / ".env.example").read_text().splitlines()
    assert {line for line in example if line and not line.startswith("#")} == {f"{name}=" for name in asked}


def test_ports_are_open_to_this_machine_only_and_images_are_pinned() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        tag = service["image"].partition(":")[2]
        assert tag, name
        assert tag != "latest"
    for name, port in (("gateway", 8080), ("api", 8081)):
        assert SERVICES[name]["ports"] == [f"127.0.0.1:{port}:{PORTS[name][1]}"]


def test_what_is_mounted_from_the_repository_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (COMPOSE.parent / source).exists(), source
                assert volume.endswith(":ro"), volume
