"""What can be asked of the requests that ended, and how the answers look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from solar.errors import InvalidRequest
from solar.store.facts import STATUSES, Status, iso

MOST = 1000  # entries in one answer
_LAST_MS = 253_402_300_799_999  # of the year 9999

_TROUBLE = frozenset({"request_error", "request_reroute"})

Told = dict[str, Any]  # an answer, as JSON has it

# request_type, status, model, host_id, host_name; requests, of them rerouted; tokens in, requests that know them;
# tokens out, requests that know them; seconds
Tally = tuple[str, Status, str, str | None, str | None, int, int, int, int, int, int, float]


@dataclass(frozen=True, slots=True)
class Asked:
    """What ended from `since_ms` on and before `until_ms`; None: whatever it is. Raises InvalidRequest."""

    since_ms: int
    until_ms: int
    status: str | None = None
    model: str | None = None
    host_id: str | None = None
    request_type: str | None = None
    types: tuple[str, ...] = ()  # of events; none: all
    page: int = 1
    limit: int = 200

    def __post_init__(self) -> None:
        if self.status is not None and self.status not in STATUSES:
            raise InvalidRequest(f"status must be all, {', '.join(STATUSES[:-1])} or {STATUSES[-1]}.", param="status")
        for name, ms in (("from", self.since_ms), ("to", self.until_ms)):
            if not 0 <= ms <= _LAST_MS:
                raise InvalidRequest(f"{name} must be a time from 1970 to 9999.", param=name)
        if not 1 <= self.page <= 1_000_000:
            raise InvalidRequest("page must be a number from 1 on.", param="page")
        if not 1 <= self.limit <= MOST:
            raise InvalidRequest(f"limit must be a number from 1 to {MOST}.", param="limit")

    @property
    def only_trouble(self) -> bool:
        """Whether what is asked for happens to requests only that failed, or needed another attempt."""
        return bool(self.types) and _TROUBLE.issuperset(self.types)

    def answer_requests(self, total: int, items: list[Told]) -> Told:
        """`/gateway/requests`."""
        return self._span() | {"page": self.page, "limit": self.limit, "total": total, "items": items}

    def answer_events(self, items: list[Told]) -> Told:
        """`/gateway/events/recent`."""
        return self._span() | {"types": list(self.types), "items": items}

    def answer_stats(self, sums: Told) -> Told:
        """`/gateway/stats`."""
        return self._span() | sums

    def _span(self) -> Told:
        return {"from": iso(self.since_ms), "to": iso(self.until_ms)}


@dataclass(slots=True)
class _Sum:
    completed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0

    def add(self, count: int, tokens_in: int, tokens_out: int, seconds: float) -> None:
        self.completed += count
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.seconds += seconds

    def shown(self) -> Told:
        return {
            "completed": self.completed,
            "token_in": self.tokens_in,
            "token_out": self.tokens_out,
            "avg_duration_s": _mean(self.seconds, self.completed),
        }


def total(tallies: Iterable[Tally]) -> Told:
    """What they make together. Tokens and times are of requests that succeeded, means of those that tell theirs."""
    by_status = dict.fromkeys(STATUSES, 0)
    by_type: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(("total", *STATUSES), 0))
    models: defaultdict[str, _Sum] = defaultdict(_Sum)
    hosts: defaultdict[str, _Sum] = defaultdict(_Sum)
    names: dict[str, str | None] = {}
    rerouted = tokens_in = tokens_out = know_in = know_out = 0
    for kind, status, model, host_id, host_name, count, again, t_in, k_in, t_out, k_out, seconds in tallies:
        by_status[status] += count
        by_type[kind]["total"] += count
        by_type[kind][status] += count
        rerouted += again
        if status != "success":
            continue
        tokens_in, tokens_out, know_in, know_out = (
            tokens_in + t_in,
            tokens_out + t_out,
            know_in + k_in,
            know_out + k_out,
        )
        models[model].add(count, t_in, t_out, seconds)
        if host_id is not None:
            hosts[host_id].add(count, t_in, t_out, seconds)
            names[host_id] = host_name or names.get(host_id)
    return {
        "completed": by_status["success"],
        "missed": by_status["missed"],
        "error": by_status["error"],
        "rerouted_requests": rerouted,
        "token_in_total": tokens_in,
        "token_out_total": tokens_out,
        "avg_tokens_in": _mean(tokens_in, know_in),
        "avg_tokens_out": _mean(tokens_out, know_out),
        "models": [{"model": model} | made.shown() for model, made in _most_first(models)],
        "hosts": [{"host_id": i, "host_name": names[i]} | made.shown() for i, made in _most_first(hosts)],
        "request_types": [{"request_type": kind} | counts for kind, counts in sorted(by_type.items())],
    }


def _mean(amount: float, count: int) -> float:
    return round(amount / count, 3) if count else 0.0


def _most_first(sums: dict[str, _Sum]) -> list[tuple[str, _Sum]]:
    return sorted(sums.items(), key=lambda item: (-item[1].completed, item[0]))
