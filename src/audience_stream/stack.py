"""`audience-stream up`: servers, topics, services and a demo account, in one command."""

import json
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from audience_core.errors import PermanentError, SettingsError
from audience_core.kafka.admin import TopicAdmin
from audience_core.settings import CoreSettings, load
from audience_stream.demo import DEMO_ACCOUNT, DEMO_VISITOR, Demo, curl_line
from audience_stream.embedded import EmbeddedKafka, EmbeddedRedis, free_port
from audience_stream.services import Service, Supervisor

_SUMMARY_EVERY_S = 5.0
_PROBE_PORTS = {"worker": 9101, "indexer": 9102}


@dataclass
class Layout:
    """Ports and environment of a stack, decided before anything is started."""

    environment: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def url(self, service: str) -> str:
        """Base URL of a service."""
        return f"http://127.0.0.1:{self.ports[service]}"


def _choose_ports() -> dict[str, int]:
    """Port of each service. Raises SettingsError for a wrong setting, PermanentError naming a port that is taken."""
    from ingest_gateway.settings import GatewaySettings
    from membership_worker.settings import WorkerSettings
    from segment_api.settings import ApiSettings

    chosen = {
        "gateway": _checked(load(GatewaySettings).gateway_port, "gateway", "AUDIENCE_GATEWAY_PORT"),
        "api": _checked(load(ApiSettings).api_port, "api", "AUDIENCE_API_PORT"),
    }
    any_free = load(WorkerSettings).metrics_port == 0
    for service, default in _PROBE_PORTS.items():
        # one setting can't name two ports: it is used for "any", and the defaults stand otherwise
        chosen[service] = _checked(0 if any_free else default, service, "AUDIENCE_METRICS_PORT")
    return chosen


def _checked(port: int, service: str, variable: str) -> int:
    if port == 0:
        return free_port()
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        # the worker and the indexer share a variable, which can't name two ports
        remedy = "0 (any free one)" if variable == "AUDIENCE_METRICS_PORT" else "another port (0 = any free one)"
        raise PermanentError(
            f"port {port} of the {service} is taken, perhaps by another `up`; set {variable} to {remedy}"
        ) from None
    return port


def _start_servers(layout: Layout, folder: Path, running: ExitStack) -> None:
    environment = layout.environment
    if not os.environ.get("AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"):
        kafka = running.enter_context(EmbeddedKafka(folder))
        environment["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"] = kafka.address
        environment.setdefault("AUDIENCE_KAFKA_REPLICATION", "1")
        # the embedded broker lets a new member in only after about half of this
        environment.setdefault("AUDIENCE_KAFKA_SESSION_TIMEOUT", "2s")
        environment.setdefault("AUDIENCE_SHARDS", "8")
    if not os.environ.get("AUDIENCE_REDIS_URL"):
        environment["AUDIENCE_REDIS_URL"] = running.enter_context(EmbeddedRedis(folder)).url


def _lay_out() -> Layout:
    layout = Layout(ports=_choose_ports())
    given = {name: value for name, value in os.environ.items() if name.startswith("AUDIENCE_")}
    layout.environment = {
        "AUDIENCE_HOST": "127.0.0.1",
        "AUDIENCE_LOG_LEVEL": "warning",
        "AUDIENCE_PEPPER": secrets.token_urlsafe(32),
        "AUDIENCE_ADMIN_TOKEN": secrets.token_urlsafe(32),
        **given,
        "AUDIENCE_GATEWAY_PORT": str(layout.ports["gateway"]),
        "AUDIENCE_API_PORT": str(layout.ports["api"]),
        "AUDIENCE_GATEWAY_URL": layout.url("gateway"),
        # what is started by hand beside the stack must not want the ports of its services
        "AUDIENCE_METRICS_PORT": "0",
    }
    layout.environment.pop("AUDIENCE_READY_FILE", None)
    return layout


def _create_topics(environment: dict[str, str]) -> None:
    os.environ.update(environment)  # settings are read from the environment, here as in every service
    TopicAdmin(load(CoreSettings)).create_missing()


def _services(layout: Layout) -> list[Service]:
    own = {"worker": "AUDIENCE_METRICS_PORT", "indexer": "AUDIENCE_METRICS_PORT"}
    return [
        Service(
            name,
            layout.url(name),
            layout.environment | ({own[name]: str(layout.ports[name])} if name in own else {}),
        )
        for name in ("worker", "indexer", "gateway", "api")
    ]


def _ready(layout: Layout, demo: dict[str, str]) -> dict[str, Any]:
    environment = {k: v for k, v in layout.environment.items() if k != "AUDIENCE_LOG_LEVEL"}
    return {
        "gateway_url": layout.url("gateway"),
        "api_url": layout.url("api"),
        "console_url": f"{layout.url('api')}/console",
        **demo,
        "admin_token": layout.environment["AUDIENCE_ADMIN_TOKEN"],
        "kafka_bootstrap": layout.environment["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"],
        "redis_url": layout.environment["AUDIENCE_REDIS_URL"],
        "metrics_urls": {service: f"{layout.url(service)}/metrics" for service in sorted(layout.ports)},
        "environment": environment,
    }


def _write(ready_file: Path, ready: dict[str, Any]) -> None:
    partial = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
    partial.touch(mode=0o600)  # it holds secrets
    partial.write_text(json.dumps(ready, indent=2))
    partial.rename(ready_file)


def _announce(ready: dict[str, Any]) -> None:
    typer.echo(
        f"""
Ready.
  gateway      {ready["gateway_url"]}/firehose
  segments     {ready["api_url"]}/accounts/{ready["account"]}/segments/{DEMO_VISITOR}
  console      {ready["console_url"]}
  control API  {ready["api_url"]}/v1  (OpenAPI at /openapi.json)
  account      {ready["account"]}
  API key      {ready["api_key"]}
  admin token  {ready["admin_token"]}

Let a visitor enter the demo audience, as mParticle would:

{curl_line(ready["gateway_url"], ready["api_key"])}

then look at the listing:

curl -sS {ready["api_url"]}/v1/accounts/{ready["account"]}/audiences -H 'Authorization: Bearer {ready["admin_token"]}'

Ctrl-C stops everything.
"""
    )


def up(
    ready_file: Annotated[
        Path | None, typer.Option(envvar="AUDIENCE_READY_FILE", help="write URLs and secrets here once all is ready")
    ] = None,
) -> None:
    """Start everything: embedded Kafka and Redis, topics, all services, a demo account; stop with Ctrl-C.

    Example: audience-stream up --ready-file ready.json
    """
    if ready_file is not None and not ready_file.parent.is_dir():
        raise SettingsError(f"there is no folder {ready_file.parent} for the ready file (AUDIENCE_READY_FILE)")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    layout = _lay_out()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="audience-stream-")))
        _start_servers(layout, folder, running)
        _create_topics(layout.environment)
        supervisor = Supervisor(_services(layout), lambda text: typer.echo(text, err=True))
        running.callback(supervisor.stop)
        if not supervisor.start(stop):
            return
        demo = Demo(layout.url("gateway"), layout.url("api"), layout.environment["AUDIENCE_ADMIN_TOKEN"])
        ready = _ready(layout, demo.make())
        if ready_file is not None:
            _write(ready_file, ready)
            running.callback(ready_file.unlink, missing_ok=True)
        _announce(ready)
        while not stop.wait(_SUMMARY_EVERY_S):
            _summarise(demo)


def _summarise(demo: Demo) -> None:
    try:
        audiences = demo.listing()
    except httpx.HTTPError:
        typer.echo(f"{time.strftime('%H:%M:%S')}  the segment API does not answer")
        return
    counts = ", ".join(f"{a['name']}: {a['count']}" for a in audiences) or "none yet"
    typer.echo(f"{time.strftime('%H:%M:%S')}  populated audiences of {DEMO_ACCOUNT}: {counts}")
