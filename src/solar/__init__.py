"""One OpenAI-compatible endpoint for all the model servers that you run."""

from solar.core.attempts import Outcome
from solar.core.backend import Backend, Model, Timeouts
from solar.core.select import Candidate, Policy, rank
from solar.discovery.base import BackendFound, BackendLost, BackendsListed, Change, Discoverer
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
    "Discoverer",
    "Failure",
    "InvalidBackend",
    "InvalidRequest",
    "InvalidSettings",
    "MissingExtra",
    "Model",
    "ModelNotFound",
    "NoBackendAvailable",
    "Outcome",
    "Policy",
    "Router",
    "Sink",
    "SolarError",
    "Timeouts",
    "Upstream",
    "UpstreamFailed",
    "UpstreamRequest",
    "rank",
]
