"""A real Prometheus and a real Alertmanager over a running system, on free ports of loopback."""

import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import yaml

from audience_stream.embedded import free_port
from tests.deploy.promql import DEPLOY
from tests.pipeline.running import eventually

RUNBOOKS = "https://docs.example.com/audience-stream/runbook.md"


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(trust_env=False, timeout=30, base_url=url)

    def query_range(self, query: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Series of an answer. Raises AssertionError with what Prometheus says is wrong."""
        asked = {"query": query, "start": str(start), "end": str(end), "step": str(step)}
        answer = self.http.post("/api/v1/query_range", data=asked).json()
        assert answer["status"] == "success", f"{answer.get('error')}: {query}"
        return list(answer["data"]["result"])

    def scraped(self) -> set[str]:
        """Jobs that were scraped, and answered."""
        now = time.time()
        answers = self.query_range("up == 1", now, now, 1)
        return {answer["metric"]["job"] for answer in answers}

    def alerts(self) -> dict[str, set[str]]:
        """Alert name → its states now: pending, firing."""
        found: dict[str, set[str]] = {}
        for alert in self.http.get("/api/v1/alerts").json()["data"]["alerts"]:
            found.setdefault(alert["labels"]["alertname"], set()).add(alert["state"])
        return found


@contextlib.contextmanager
def prometheus(
    folder: Path, targets: Mapping[str, str], *, scrape: str, rules: Mapping[str, str], alertmanager: str | None = None
) -> Iterator[Prometheus]:
    """Run Prometheus, and yield it once every target was scraped.

    `targets`: job → URL of its metrics; `rules`: file name → text; `alertmanager`: host:port.
    """
    folder.mkdir(parents=True)
    for name, text in rules.items():
        (folder / name).write_text(text)
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": scrape,
            "scrape_timeout": scrape,
            "evaluation_interval": scrape,
            "external_labels": {"runbooks": RUNBOOKS},
        },
        "rule_files": list(rules),
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [urlsplit(url).netloc]}]} for job, url in targets.items()
        ],
    }
    if alertmanager:
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        _installed("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        # else an alert that Alertmanager missed at its start is sent again only a minute later
        "--rules.alert.resend-delay=1s",
    ]
    with _running(command, folder / "prometheus.log", f"http://{address}/-/ready"):
        server = Prometheus(f"http://{address}")
        with server.http:
            # it is ready seconds before its first scrape, and what happens before that is in no `increase`
            eventually(server.scraped, 30, set(targets))
            yield server


@contextlib.contextmanager
def alertmanager(folder: Path, receiver: str) -> Iterator[str]:
    """Run Alertmanager with the routes of deploy/, all receivers moved to `receiver`; yields its host:port."""
    folder.mkdir(parents=True)
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    (folder / "alertmanager.yml").write_text(text.replace("http://pager:8090", receiver))
    address = f"127.0.0.1:{free_port()}"
    command = [
        _installed("prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with _running(command, folder / "alertmanager.log", f"http://{address}/-/ready"):
        yield address


class Webhook:
    """Hears what Alertmanager sends: `heard` holds (seconds since the start, path, status, alert)."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str, str, dict[str, Any]]] = []
        started = time.monotonic()
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    heard.append((time.monotonic() - started, self.path, alert["status"], alert))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """What is heard is kept; no line."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def rule_files() -> dict[str, str]:
    """File name → text of the rules in deploy/."""
    return {file.name: file.read_text() for file in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))}


def _installed(program: str) -> str:
    found = shutil.which(program)
    assert found, f"{program} is missing; on Debian: apt-get install prometheus prometheus-alertmanager"
    return found


@contextlib.contextmanager
def _running(command: list[str], log: Path, ready: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 30
        while not _answers(ready):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
