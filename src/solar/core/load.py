"""How much is in flight: per backend and, since its backends share the machine, per host."""

from __future__ import annotations


class HostLoad:
    """What one machine is working on, over all of its backends."""

    __slots__ = ("id", "in_flight", "size", "weight")

    def __init__(self, host_id: str) -> None:
        self.id = host_id
        self.weight = 1.0  # capacity relative to other hosts
        self.in_flight = 0  # requests sent and not yet closed
        self.size = 0.0  # billions of parameters, summed over those requests

    def __repr__(self) -> str:
        return f"<HostLoad {self.id} {self.in_flight} in flight, {self.size:g}B / {self.weight:g}>"

    @property
    def pressure(self) -> float:
        """The in-flight size that this host carries for its capacity."""
        return self.size / self.weight


class BackendLoad:
    """What one backend is working on; everything that it takes, its host carries too."""

    __slots__ = ("host", "in_flight")

    def __init__(self, host: HostLoad) -> None:
        self.host = host
        self.in_flight = 0

    def take(self, size: float) -> Slot:
        """Count one more request of a model of `size` billion parameters."""
        self.in_flight += 1
        self.host.in_flight += 1
        self.host.size += size
        return Slot(self, size)


class Slot:
    """One request's place on a backend. Giving it back twice counts once."""

    __slots__ = ("_host", "_load", "_size")

    def __init__(self, load: BackendLoad, size: float) -> None:
        self._load: BackendLoad | None = load
        self._host = load.host  # the backend may be told to belong to another one while this is in flight
        self._size = size

    def give_back(self) -> None:
        """Close the books on this request."""
        load, self._load = self._load, None
        if load is None:
            return
        load.in_flight -= 1
        host = self._host
        host.in_flight -= 1
        # An idle host weighs exactly nothing: sums of floats would leave dust behind.
        host.size = host.size - self._size if host.in_flight else 0.0
