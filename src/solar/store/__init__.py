"""Durable records: hosts, and requests that ended. A request never waits for them."""

from solar.store.archive import Counts, save
from solar.store.facts import Candidate, Host, RequestSummary, Row, Status, Trail, Try, iso
from solar.store.reading import Happened
from solar.store.state import StoreState
from solar.store.store import Store

__all__ = [
    "Candidate", "Counts", "Happened", "Host", "RequestSummary", "Row", "Status", "Store", "StoreState", "Trail", "Try",
    "iso", "save",
]  # fmt: skip
