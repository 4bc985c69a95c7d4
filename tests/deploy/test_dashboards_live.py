"""Every query of every dashboard on a real Prometheus that scraped a real system at work. `make dashboards-check`."""

import json
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.deploy.monitoring import Prometheus, prometheus, rule_files
from tests.deploy.promql import DEPLOY
from tests.pipeline.running import Stack, eventually
from tests.pipeline.starting import started

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]
RATE_INTERVAL = "10s"
OF_THE_MACHINE = {"AudienceGatewaySlow", "AudienceMembershipsStale"}
"""True on a machine that is busy with other things"""
QUERIES = [
    pytest.param(query, id=f"{file.stem}: {title}: {query[:40]}")
    for file in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
    for board in [json.loads(file.read_text())]
    for title, query in [
        *((panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])),
        *((annotation["name"], annotation["expr"]) for annotation in board["annotations"]["list"]),
    ]
]


class Watched(NamedTuple):
    """A Prometheus, and the time that it saw the system at work."""

    server: Prometheus
    began: float
    ended: float


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("live")
    # what is recorded every five minutes would not be seen in one
    rules = {name: text.replace("interval: 5m", "interval: 2s") for name, text in rule_files().items()}
    with started(
        folder, AUDIENCE_INDEXER_MEASURE_EVERY="1s", AUDIENCE_INDEXER_COMPARE_EVERY="2s", AUDIENCE_ACK_TIMEOUT="2s"
    ) as stack:
        targets = {f"audience-{service}": url for service, url in stack.ready["metrics_urls"].items()}
        with prometheus(folder / "prometheus", targets, scrape="1s", rules=rules) as server:
            began = time.time()
            _rebalance(stack)
            _work(stack)
            time.sleep(12)  # a rate looks 10 s back, and the last scrape must be in
            yield Watched(server, began, time.time())


def _rebalance(stack: Stack) -> None:
    shards = stack.metric("worker", "audience_worker_assigned_shards")
    with stack.another_worker():
        eventually(lambda: stack.metric("worker", "audience_worker_assigned_shards") < shards, 30)
    eventually(lambda: stack.metric("worker", "audience_worker_assigned_shards"), 30, shards)


def _work(stack: Stack) -> None:
    """What mParticle, SDKs and an administrator do, and one mistake of each."""
    given = [
        f"--{name.replace('_', '-')}={stack.ready[name]}"
        for name in ("api_key", "admin_token", "gateway_url", "api_url")
    ]
    run = stack.command("simulate", *given, "--profiles=1000", "--changes=1500", "--rate=120", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["differences"] == 0
    assert stack.message("audience_membership_change_request", user_profiles=[{"audiences": []}]).status_code == 200
    stack.listing()


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_answers_with_values(watched: Watched, query: str) -> None:
    filled = query.replace("$__rate_interval", RATE_INTERVAL).replace("$instance", ".+")
    series = watched.server.query_range(filled, watched.began, watched.ended, 1)
    assert series, "no series"
    numbers = [float(value) for one in series for _, value in one["values"]]
    assert any(math.isfinite(number) for number in numbers), "no value but NaN or infinity"


def test_no_alert_fires_over_a_system_at_work_but_the_watchdog_and_the_dead_letter(watched: Watched) -> None:
    firing = {name for name, states in watched.server.alerts().items() if "firing" in states}
    assert firing - OF_THE_MACHINE == {"AudienceWatchdog", "AudienceDeadLetters"}


def test_every_target_is_up(watched: Watched) -> None:
    answers: list[dict[str, Any]] = watched.server.query_range("up", watched.began, watched.ended, 1)
    assert len(answers) == 4
    assert all(float(value) == 1 for one in answers for _, value in one["values"])


def test_the_rules_are_evaluated_without_an_error(watched: Watched) -> None:
    groups = watched.server.http.get("/api/v1/rules").json()["data"]["groups"]
    assert groups
    assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"] == []
