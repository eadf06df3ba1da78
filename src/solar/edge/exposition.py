"""Series of numbers, and the two texts in which Prometheus reads them.

The text is written here: prometheus_client takes 10 us a line, and a scrape of some thousand lines would hold up every
stream meanwhile. It still has the families for those who collect into a registry of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from prometheus_client import Metric

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_UNITS = ("seconds", "bytes")


class Number:
    """A count, or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def __repr__(self) -> str:
        return f"<Number {self.value}>"

    @property
    def used(self) -> bool:
        return self.value != 0


class Histogram:
    """How many values fell up to each bound. `counts` has one place more than `bounds`: what was above them all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {sum(self.counts)} values, {self.total:g} in all>"

    @property
    def used(self) -> bool:
        return any(self.counts)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


S = TypeVar("S", Number, Histogram)


class Family(ABC, Generic[S]):
    """One metric: its name, its meaning, and a series for each set of label values seen."""

    __slots__ = ("_new", "kind", "labels", "meaning", "name", "series", "unit")

    def __init__(self, new: Callable[[], S], kind: str, name: str, meaning: str, labels: tuple[str, ...]) -> None:
        self._new: Callable[[], S] = new
        self.kind = kind
        self.name = name  # a counter's without its `_total`
        self.meaning = meaning
        self.labels = labels
        self.unit = next((unit for unit in _UNITS if name.endswith(f"_{unit}")), "")
        self.series: dict[tuple[str, ...], S] = {}

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} {len(self.series)} series>"

    def at(self, *values: str) -> S:
        """The series of these label values; a new one starts at 0."""
        found = self.series.get(values)
        if found is None:
            found = self.series[values] = self._new()
        return found

    def forget(self, label: str, value: str) -> None:
        """Drop every series that has `value` for `label`."""
        if label in self.labels:
            at = self.labels.index(label)
            self.series = {values: series for values, series in self.series.items() if values[at] != value}

    def shown(self) -> Iterator[tuple[tuple[str, ...], S]]:
        """The series worth a line: what never streams has no first token, and no zero either."""
        for values, series in self.series.items():
            if not values or self.kind == "gauge" or series.used:
                yield values, series

    def text(self, *, openmetrics: bool) -> str:
        """The family as text. The two formats differ in its head only."""
        name = f"{self.name}_total" if self.kind == "counter" and not openmetrics else self.name
        parts = [f"# HELP {name} {self.meaning}\n# TYPE {name} {self.kind}\n"]
        if openmetrics and self.unit:
            parts.append(f"# UNIT {name} {self.unit}\n")
        for values, series in self.shown():
            pairs = [f'{label}="{_escaped(value)}"' for label, value in zip(self.labels, values, strict=True)]
            parts.append(self._sample(",".join(pairs), series))
        return "".join(parts)

    @abstractmethod
    def _sample(self, labels: str, series: S) -> str: ...

    @abstractmethod
    def metric(self) -> Metric:
        """The family as prometheus_client knows it."""


class Numbers(Family[Number]):
    """A counter or a gauge."""

    __slots__ = ()

    def __init__(self, kind: Literal["counter", "gauge"], name: str, meaning: str, *labels: str) -> None:
        super().__init__(Number, kind, name, meaning, labels)

    def _sample(self, labels: str, series: Number) -> str:
        name = f"{self.name}_total" if self.kind == "counter" else self.name
        return f"{name}{{{labels}}} {series.value}\n" if labels else f"{name} {series.value}\n"

    def metric(self) -> Metric:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        new = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = new(self.name, self.meaning, labels=self.labels, unit=self.unit)
        for values, series in self.shown():
            family.add_metric(values, series.value)
        return family


class Histograms(Family[Histogram]):
    """A histogram: every series has the same bounds."""

    __slots__ = ("_bounds",)

    def __init__(self, bounds: tuple[float, ...], name: str, meaning: str, *labels: str) -> None:
        super().__init__(lambda: Histogram(bounds), "histogram", name, meaning, labels)
        self._bounds = (*(str(float(bound)) for bound in bounds), "+Inf")

    def _buckets(self, series: Histogram) -> list[tuple[str, int]]:
        """As Prometheus has them: each holds all that is not above its bound."""
        below = 0
        return [(bound, below := below + count) for bound, count in zip(self._bounds, series.counts, strict=True)]

    def _sample(self, labels: str, series: Histogram) -> str:
        name, buckets = self.name, self._buckets(series)
        before, around = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
        lines = [f'{name}_bucket{{{before}le="{bound}"}} {below}\n' for bound, below in buckets]
        lines.append(f"{name}_count{around} {buckets[-1][1]}\n{name}_sum{around} {series.total}\n")
        return "".join(lines)

    def metric(self) -> Metric:
        from prometheus_client.metrics_core import HistogramMetricFamily

        family = HistogramMetricFamily(self.name, self.meaning, labels=self.labels, unit=self.unit)
        for values, series in self.shown():
            family.add_metric(values, self._buckets(series), series.total)
        return family


def text_of(families: Iterable[Family[Number] | Family[Histogram]], accept: str | None) -> tuple[bytes, str]:
    """The exposition and its content type: OpenMetrics for who accepts it, else Prometheus's own text."""
    openmetrics = accept is not None and "application/openmetrics-text" in accept
    text = "".join([family.text(openmetrics=openmetrics) for family in families])
    # Names come from backends: one that is no Unicode must not end every scrape.
    body = text.encode("utf-8", "replace")
    return (body + b"# EOF\n", OPENMETRICS) if openmetrics else (body, TEXT)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
