"""Durable records: hosts, requests that ended, routing events. A request never waits for them."""

from solar.store.archive import Counts, save
from solar.store.facts import Host, RequestSummary, RoutingEvent, Status, iso
from solar.store.state import StoreState
from solar.store.store import Store

__all__ = ["Counts", "Host", "RequestSummary", "RoutingEvent", "Status", "Store", "StoreState", "iso", "save"]
