"""What a query asks for: the metrics and labels that it names."""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

from audience_core.observability.metrics_page import declared

DEPLOY = Path(__file__).parents[2] / "deploy"
# of Prometheus and of its client library; the recorded ones come from our own rules
FOREIGN = {
    "ALERTS": {"alertname", "alertstate", "severity"},
    "up": {"job", "instance"},
    "process_cpu_seconds_total": {"job", "instance"},
    "process_resident_memory_bytes": {"job", "instance"},
    "process_start_time_seconds": {"job", "instance", "process"},
}
ALWAYS = {"job", "instance", "le"}


class Selector(NamedTuple):
    """A metric's name and the names of the labels that are matched."""

    name: str
    labels: frozenset[str]


def selectors(query: str) -> list[Selector]:
    """Every selector of a query. Grafana's variables are filled in before it is parsed. Raises ValueError."""
    filled = query.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$__interval", "1m")
    found: list[Selector] = []

    def visit(expr: Any) -> bool:
        if isinstance(expr, promql_parser.VectorSelector):
            matchers = expr.matchers.matchers
            found.append(Selector(expr.name or "", frozenset(m.name for m in matchers if m.name != "__name__")))
        return True

    promql_parser.walk(promql_parser.parse(re.sub(r"\$\{?\w+\}?", ".*", filled)), visit)
    return found


@cache
def rules() -> list[dict[str, Any]]:
    """All recording and alerting rules."""
    files = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
    return [rule for file in files for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


@cache
def known() -> dict[str, set[str]]:
    """Series → its labels: of our processes, of Prometheus, and of what is recorded."""
    labels = {series: set(metric.labels) for metric in declared() for series in metric.series} | FOREIGN
    for rule in rules():
        if "record" in rule:
            labels.setdefault(rule["record"], set()).update(rule.get("labels", {}))
    return labels


def unknown(query: str) -> list[str]:
    """What a query names and nothing gives: metrics, or labels of them."""
    labels, wrong = known(), []
    for name, matched in selectors(query):
        if name not in labels:
            wrong.append(name)
        wrong += [f"{name}{{{label}}}" for label in matched - labels.get(name, matched) - ALWAYS]
    return wrong
