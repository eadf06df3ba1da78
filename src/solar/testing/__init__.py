"""Fakes for users' own tests: a backend with every fault on command, a host agent, a discoverer, a clock, a proxy."""

from solar.testing import faults
from solar.testing.agents import Answered, FakeAgent, FakeInstance, json_answer
from solar.testing.backend import FakeBackend
from solar.testing.clock import FakeClock
from solar.testing.discoverer import FakeDiscoverer
from solar.testing.fault import Fault, fault_named
from solar.testing.proxy import TcpProxy, blackhole
from solar.testing.recorded import Recorded

__all__ = [
    "Answered",
    "FakeAgent",
    "FakeBackend",
    "FakeClock",
    "FakeDiscoverer",
    "FakeInstance",
    "Fault",
    "Recorded",
    "TcpProxy",
    "blackhole",
    "fault_named",
    "faults",
    "json_answer",
]
