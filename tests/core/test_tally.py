"""Tallied metrics read as prometheus_client's own do."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.registry import Collector

from audience_core.observability.tally import TalliedCounter, TalliedHistogram

BUCKETS = (0.001, 0.01, 0.5, 1)
LABELS = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["200", "503"]))


def samples(collector: Iterable[Metric]) -> list[tuple[str, dict[str, str], float]]:
    found = [(s.name, s.labels, float(s.value)) for metric in collector for s in metric.samples]
    return sorted((sample for sample in found if not sample[0].endswith("_created")), key=str)


def shown(*, tallied: Collector, library: CollectorRegistry) -> None:
    REGISTRY.unregister(tallied)
    assert samples(tallied.collect()) == samples(library.collect())


@given(st.lists(st.floats(0, 2) | st.sampled_from(BUCKETS)))
def test_a_histogram_has_the_same_buckets_sum_and_count(values: list[float]) -> None:
    registry = CollectorRegistry()
    library = Histogram("tallied_seconds", "Some", buckets=BUCKETS, registry=registry)
    tallied = TalliedHistogram("tallied_seconds", "Some", buckets=BUCKETS)
    for value in values:
        library.observe(value)
        tallied.observe(value)
    shown(tallied=tallied, library=registry)


@given(st.lists(st.tuples(LABELS, st.integers(0, 10))))
def test_a_counter_has_the_same_series(counted: list[tuple[tuple[str, str], int]]) -> None:
    registry = CollectorRegistry()
    library = Counter("tallied_total", "Some", ["kind", "status"], registry=registry)
    tallied = TalliedCounter("tallied_total", "Some", ["kind", "status"])
    for labels, amount in counted:
        library.labels(*labels).inc(amount)
        tallied.add(amount, *labels)
    shown(tallied=tallied, library=registry)


def test_a_counter_without_labels_begins_at_zero() -> None:
    tallied = TalliedCounter("begun_total", "Some")
    REGISTRY.unregister(tallied)
    assert samples(tallied.collect()) == [("begun_total", {}, 0)]
