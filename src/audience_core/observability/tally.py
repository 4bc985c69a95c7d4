"""Metrics that one event loop counts and shows. They take a tenth of the time of prometheus_client's own, which lock.

For the paths that are taken ten thousand times a second (docs/performance.md), and for nothing that threads share.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class TalliedCounter(Collector):
    """A counter whose series come into being as they are counted. `name` ends with `_total`."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str] = ()) -> None:
        self.name, self.meaning, self.labels = name, meaning, tuple(labels)
        self._values: dict[tuple[str, ...], int] = {} if labels else {(): 0}
        REGISTRY.register(self)

    def add(self, amount: int, *labels: str) -> None:
        """Count; a value for each label, in their order."""
        values = self._values
        values[labels] = values.get(labels, 0) + amount

    def collect(self) -> Iterable[Metric]:
        """What the registry asks for."""
        family = CounterMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


class TalliedHistogram(Collector):
    """A histogram with these upper bounds, in rising order; a last one without a bound is added."""

    def __init__(self, name: str, meaning: str, *, buckets: Sequence[float]) -> None:
        self.name, self.meaning, self.buckets = name, meaning, tuple(buckets)
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0
        REGISTRY.register(self)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self.buckets, value)] += 1
        self._sum += value

    def collect(self) -> Iterable[Metric]:
        """What the registry asks for."""
        bounds = [str(float(bound)) for bound in self.buckets] + ["+Inf"]
        family = HistogramMetricFamily(self.name, self.meaning)
        family.add_metric([], list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)
        yield family
