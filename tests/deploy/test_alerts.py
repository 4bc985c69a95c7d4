"""Alerts, their tests, their runbook and the metrics that they stand on belong together."""

import re
from functools import cache
from typing import Any

import pytest
import yaml
from cloudcoil.models.kubernetes.rbac.v1 import Role, RoleBinding

from audience_core.observability.metrics_page import declared, page
from audience_indexer.settings import IndexerSettings
from ingest_gateway.settings import GatewaySettings
from membership_worker.settings import WorkerSettings
from segment_api.settings import ApiSettings
from tests.deploy.promql import DEPLOY, alerts, rules, unknown

DOCS = DEPLOY.parent / "docs"
ALERTS = {alert["alert"]: alert for alert in alerts()}
SPEAKERS = {"critical", "warning", "info"}


@cache
def looks_of_promtool() -> dict[str, list[list[dict[str, Any]]]]:
    """Alert → for each moment at which promtool looks at it, what must fire then."""
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for file in sorted((DEPLOY / "prometheus" / "tests").glob("*.yml")):
        for group in yaml.safe_load(file.read_text())["tests"]:
            for look in sorted(group["alert_rule_test"], key=lambda look: _seconds(look["eval_time"])):
                found.setdefault(look["alertname"], []).append(look["exp_alerts"])
    return found


def _seconds(duration: str) -> int:
    return sum(int(n) * {"h": 3600, "m": 60, "s": 1}[unit] for n, unit in re.findall(r"(\d+)([hms])", duration))


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_tested_to_fire_with_its_exact_words_to_stay_quiet_and_to_clear(name: str) -> None:
    looks = looks_of_promtool().get(name, [])
    firing = [alert for look in looks for alert in look]
    assert firing, "no test sees it fire"
    for alert in firing:
        assert set(alert["exp_annotations"]) == set(ALERTS[name]["annotations"])
        assert alert["exp_labels"]["severity"] == ALERTS[name]["labels"]["severity"]
    if name == "AudienceWatchdog":
        return  # it never is quiet
    changes = [bool(look) for look in looks]
    assert [False, True, False] in [changes[at : at + 3] for at in range(len(changes))], "quiet, firing, quiet again"


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_it_is_how_bad_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert re.fullmatch(r"Audience[A-Z]\w+", name)
    assert alert["labels"]["severity"] in SPEAKERS
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert "{{" not in alert["annotations"]["summary"], "alerts of one name are grouped by their summary"
    assert alert["annotations"]["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}#{name.lower()}"


def test_the_runbook_has_a_whole_chapter_for_every_alert_and_for_no_other() -> None:
    chapters = re.split(r"^## ", (DOCS / "runbook.md").read_text(), flags=re.MULTILINE)[1:]
    assert {chapter.split("\n", 1)[0] for chapter in chapters} == set(ALERTS)
    for chapter in chapters:
        for part in ("**Means.**", "**Look.**", "**Do.**", "**Over when**"):
            assert part in chapter, (chapter.split("\n", 1)[0], part)


def test_the_runbook_asks_for_nothing_that_does_not_exist() -> None:
    runbook = (DOCS / "runbook.md").read_text()
    families = r"\baudience(:|_(gateway|worker|indexer|shard|redis|api|kafka|dead_letters)_)|\bup\{|process_"
    queries = [text for text in re.findall(r"`([^`\n]+)`", runbook) if re.search(families, text)]
    assert queries
    histograms = {metric.name for metric in declared() if metric.buckets}
    assert [wrong for query in queries for wrong in unknown(query) if wrong not in histograms] == []
    settings = {
        f"AUDIENCE_{name.upper()}"
        for kind in (GatewaySettings, WorkerSettings, IndexerSettings, ApiSettings)
        for name in kind.model_fields
    }
    assert set(re.findall(r"\bAUDIENCE_\w+", runbook)) <= settings
    anchors = set(re.findall(r"\]\(#([^)]+)\)", runbook))
    assert anchors <= {name.lower() for name in ALERTS}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_and_label_in_a_rule_exists(rule: dict[str, Any]) -> None:
    assert unknown(rule["expr"]) == []


def test_every_bound_of_a_histogram_that_an_objective_counts_up_to_is_a_bucket() -> None:
    buckets = {metric.name: {repr(float(bound)) for bound in metric.buckets} for metric in declared()}
    bounds = [bound for rule in rules() for bound in re.findall(r'(\w+)_bucket\{le="([^"]+)"', rule["expr"])]
    assert bounds
    assert [(name, bound) for name, bound in bounds if bound not in buckets[name]] == []


def test_alertmanager_names_only_alerts_that_exist() -> None:
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    assert set(re.findall(r"\bAudience[A-Z]\w+", text)) <= set(ALERTS)


def test_both_scrape_files_give_the_rules_the_jobs_that_they_name() -> None:
    compose, kubernetes = (
        yaml.safe_load((DEPLOY / "prometheus" / name).read_text()) for name in ("prometheus.yml", "kubernetes.yml")
    )
    jobs = {f"audience-{service}" for service in ("gateway", "worker", "indexer", "api")}
    assert {scrape["job_name"] for scrape in compose["scrape_configs"]} == jobs
    (scrape,) = kubernetes["scrape_configs"]
    assert [rule.get("replacement") for rule in scrape["relabel_configs"] if rule.get("target_label") == "job"] == [
        "audience-$1"
    ]
    assert scrape["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["audience-stream"]}}]
    for config in (compose, kubernetes):
        assert "runbooks" in config["global"]["external_labels"]


def test_the_prometheus_of_the_namespace_that_the_network_lets_in_may_find_the_pods_and_no_more() -> None:
    found = yaml.safe_load_all((DEPLOY / "prometheus" / "kubernetes-rights.yml").read_text())
    role, binding = next(found), next(found)
    Role.model_validate(role)
    RoleBinding.model_validate(binding)
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    policies = yaml.safe_load_all((DEPLOY / "kubernetes" / "base" / "network.yaml").read_text())
    [metrics] = [policy for policy in policies if policy["metadata"]["name"] == "metrics"]
    [let_in] = metrics["spec"]["ingress"][0]["from"]
    namespace = let_in["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert [subject["namespace"] for subject in binding["subjects"]] == [namespace]


def test_the_page_of_metrics_is_what_the_code_declares() -> None:
    assert (DOCS / "metrics.md").read_text() == page(), "run `make docs`"
