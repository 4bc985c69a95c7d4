"""Writes `docs/metrics.md` out of the declared metrics: `python -m audience_core.observability.metrics_page`."""

from typing import NamedTuple

from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from audience_core.observability import metrics
from audience_core.observability.tally import TalliedCounter, TalliedHistogram

_HEAD = """# Metrics

Written by `make docs` out of `src/audience_core/observability/metrics.py`; a test fails when the two differ.
Every process serves them at `/metrics`: gateway 8080, API 8081, worker 9101, indexer 9102. Python's own `process_`
and `python_` metrics come with them. Durations are seconds, sizes bytes. No label holds an MPID, an account, a name
or a key.
"""
_SECTIONS = (
    ("audience_gateway_", "Gateway", ""),
    ("audience_worker_", "Worker", ""),
    ("audience_indexer_", "Indexer", ""),
    (
        "audience_shard_",
        "Shards",
        "Measured by the indexer, from outside the workers: they still tell when those hang.",
    ),
    ("audience_redis_", "Redis", "Measured by the indexer."),
    ("audience_api_", "Segment API", ""),
    ("audience_", "Every service", ""),
)


class Declared(NamedTuple):
    """One metric: its name as Prometheus shows it, its type, label names, meaning, and a histogram's bounds."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...]

    @property
    def series(self) -> set[str]:
        """Names that its samples carry."""
        return {f"{self.name}_{part}" for part in ("bucket", "count", "sum")} if self.buckets else {self.name}


def declared() -> list[Declared]:
    """All metrics of the project, in the order of their declaration."""
    kinds = MetricWrapperBase | TalliedCounter | TalliedHistogram
    return [_describe(metric) for metric in vars(metrics).values() if isinstance(metric, kinds)]


def page() -> str:
    """Return the whole page in Markdown."""
    left, parts = declared(), [_HEAD]
    for prefix, title, remark in _SECTIONS:
        rows = [metric for metric in left if metric.name.startswith(prefix)]
        left = [metric for metric in left if metric not in rows]
        if rows:
            parts += [f"## {title}\n", *([f"{remark}\n"] if remark else [])]
            parts += ["| name | type | labels | meaning |", "| --- | --- | --- | --- |", *map(_row, rows), ""]
    return "\n".join(parts)


def _describe(metric: MetricWrapperBase | TalliedCounter | TalliedHistogram) -> Declared:
    if isinstance(metric, TalliedCounter):
        return Declared(metric.name, "counter", metric.labels, metric.meaning, ())
    if isinstance(metric, TalliedHistogram):
        return Declared(metric.name, "histogram", (), metric.meaning, metric.buckets)
    family = next(iter(metric.describe()))
    bounds = metric._upper_bounds if isinstance(metric, Histogram) else ()  # noqa: SLF001 - its only name
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Declared(name, family.type, tuple(metric._labelnames), family.documentation, tuple(bounds[:-1]))  # noqa: SLF001 - its only name


def _row(metric: Declared) -> str:
    bounds = f"; up to {', '.join(f'{bound:g}' for bound in metric.buckets)}" if metric.buckets else ""
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning}{bounds} |"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - it is made to be redirected into the file
