"""What the coordinator knows of its hosts: who they are, how they do, and which backends their instances are."""

from solar.control.fleet.calls import AgentAnswer, HostUnreachable
from solar.control.fleet.fleet import Fleet
from solar.control.fleet.view import HostView

__all__ = ["AgentAnswer", "Fleet", "HostUnreachable", "HostView"]
