"""One OpenAI-compatible endpoint for all the model servers that you run."""

from importlib import import_module
from typing import TYPE_CHECKING

from solar.core.attempts import Outcome
from solar.core.backend import Backend, Model, Timeouts
from solar.core.decision import Considered
from solar.core.explain import Explanation
from solar.core.select import Candidate, Policy, rank
from solar.discovery.base import BackendFound, BackendLost, BackendsListed, Change, Discoverer
from solar.discovery.sighting import Sighting
from solar.edge.transport import Call, Failure, Sink, Upstream, UpstreamRequest
from solar.errors import (
    InvalidBackend,
    InvalidRequest,
    InvalidSettings,
    MissingExtra,
    ModelNotFound,
    NoBackendAvailable,
    SolarError,
    UpstreamFailed,
)
from solar.router import BackendStatus, Router

if TYPE_CHECKING:
    from solar.discovery.dns import DnsDiscoverer
    from solar.discovery.docker.discoverer import DockerDiscoverer
    from solar.discovery.docker.images import ImageRule
    from solar.discovery.file import FileDiscoverer
    from solar.discovery.local import LocalDiscoverer
    from solar.discovery.mdns import MdnsDiscoverer

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendFound",
    "BackendLost",
    "BackendStatus",
    "BackendsListed",
    "Call",
    "Candidate",
    "Change",
    "Considered",
    "Discoverer",
    "DnsDiscoverer",
    "DockerDiscoverer",
    "Explanation",
    "Failure",
    "FileDiscoverer",
    "ImageRule",
    "InvalidBackend",
    "InvalidRequest",
    "InvalidSettings",
    "LocalDiscoverer",
    "MdnsDiscoverer",
    "MissingExtra",
    "Model",
    "ModelNotFound",
    "NoBackendAvailable",
    "Outcome",
    "Policy",
    "Router",
    "Sighting",
    "Sink",
    "SolarError",
    "Timeouts",
    "Upstream",
    "UpstreamFailed",
    "UpstreamRequest",
    "rank",
]

# Imported where they are asked for: whoever names his backends need not wait for what finds others.
_LATER = {
    "DnsDiscoverer": "solar.discovery.dns",
    "DockerDiscoverer": "solar.discovery.docker.discoverer",
    "FileDiscoverer": "solar.discovery.file",
    "ImageRule": "solar.discovery.docker.images",
    "LocalDiscoverer": "solar.discovery.local",
    "MdnsDiscoverer": "solar.discovery.mdns",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
