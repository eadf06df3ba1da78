"""The routes of /hosts: registering machines, looking at them, forgetting them."""

from __future__ import annotations

from solar.control.api.asking import Answer, Asked, Desk, Operation, Parameter, flag, only, told
from solar.errors import InvalidRequest
from solar.wire.hosts import Host, HostPatch, HostResponse, NewHost, RefreshedAll, read_host_patch, read_new_host

_UNREACHABLE = Parameter("unreachable", "`true`: keep the host even if its agent cannot be reached now", "boolean")


async def listed(desk: Desk, asked: Asked) -> Answer:
    return told(desk.fleet.hosts())


async def added(desk: Desk, asked: Asked) -> Answer:
    only(asked, (_UNREACHABLE,))
    host = await desk.fleet.add(read_new_host(asked.body), unreachable=flag(asked, "unreachable"))
    return told(HostResponse(host, f"Host '{host.name}' registered successfully"))


async def shown(desk: Desk, asked: Asked) -> Answer:
    return told(_host(desk, asked.path["host_id"]))


async def patched(desk: Desk, asked: Asked) -> Answer:
    host = await desk.fleet.patch(asked.path["host_id"], read_host_patch(asked.body))
    return told(HostResponse(host, f"Host '{host.name}' updated successfully"))


async def removed(desk: Desk, asked: Asked) -> Answer:
    host = await desk.fleet.remove(asked.path["host_id"])
    return told(HostResponse(host, f"Host '{host.name}' removed successfully"))


async def refreshed(desk: Desk, asked: Asked) -> Answer:
    host = await desk.fleet.refresh(asked.path["host_id"])
    return told(HostResponse(host, f"Host '{host.name}' is {host.status}"))


async def all_refreshed(desk: Desk, asked: Asked) -> Answer:
    return told(RefreshedAll.of(await desk.fleet.refresh_all()))


def _host(desk: Desk, host_id: str) -> Host:
    for host in desk.fleet.hosts():
        if host.id == host_id:
            return host
    raise InvalidRequest("Host not found", status=404, code="host_not_found")


OPERATIONS = (
    Operation("GET", "/hosts", "All hosts", listed, tuple[Host, ...]),
    Operation("POST", "/hosts", "Register a host", added, HostResponse, NewHost, (_UNREACHABLE,)),
    Operation("POST", "/hosts/refresh-all", "Ask all hosts anew", all_refreshed, RefreshedAll),
    Operation("GET", "/hosts/{host_id}", "One host", shown, Host),
    Operation("PATCH", "/hosts/{host_id}", "Give a host another name, URL or key", patched, HostResponse, HostPatch),
    Operation("DELETE", "/hosts/{host_id}", "Forget a host; what runs on it goes on", removed, HostResponse),
    Operation("POST", "/hosts/{host_id}/refresh", "Ask a host anew", refreshed, HostResponse),
)
