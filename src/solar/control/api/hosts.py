"""The routes of /hosts: registering machines, looking at them, forgetting them."""

from __future__ import annotations

from contextlib import suppress

from solar.control.api.asking import Answer, Asked, Desk, Operation, Parameter, flag, only, told
from solar.control.fleet import HostView
from solar.errors import StoreFailed
from solar.wire.hosts import (
    Host,
    HostPatch,
    HostResponse,
    NewHost,
    Refreshed,
    RefreshedAll,
    read_host_patch,
    read_new_host,
)

_UNREACHABLE = Parameter("unreachable", "`true`: keep the host even if its agent cannot be reached now", "boolean")


async def listed(desk: Desk, asked: Asked) -> Answer:
    return told([view.as_json for view in await desk.fleet.listed()])


async def added(desk: Desk, asked: Asked) -> Answer:
    only(asked, (_UNREACHABLE,))
    await desk.fleet.listed()
    view = await desk.fleet.add(read_new_host(asked.body), unreachable=flag(asked, "unreachable"))
    return told(HostResponse(view.as_json, f"Host '{view.name}' registered successfully"))


async def shown(desk: Desk, asked: Asked) -> Answer:
    return told(_view(desk, asked.path["host_id"]).as_json)


async def patched(desk: Desk, asked: Asked) -> Answer:
    view = await desk.fleet.patch(asked.path["host_id"], read_host_patch(asked.body))
    return told(HostResponse(view.as_json, f"Host '{view.name}' updated successfully"))


async def removed(desk: Desk, asked: Asked) -> Answer:
    view = await desk.fleet.remove(asked.path["host_id"])
    return told(HostResponse(view.as_json, f"Host '{view.name}' removed successfully"))


async def refreshed(desk: Desk, asked: Asked) -> Answer:
    view = await desk.fleet.refresh(asked.path["host_id"])
    return told(HostResponse(view.as_json, _how(view)))


async def all_refreshed(desk: Desk, asked: Asked) -> Answer:
    await desk.fleet.listed()
    with suppress(StoreFailed):  # those that are known are asked all the same
        await desk.fleet.read_again()
    views = await desk.fleet.refresh_all()
    return told(RefreshedAll.of(tuple(Refreshed(view.id, view.name, view.status, _how(view)) for view in views)))


def _view(desk: Desk, host_id: str) -> HostView:
    desk.fleet.instances(host_id)  # it knows why there is none
    return next(view for view in desk.fleet.hosts() if view.id == host_id)


def _how(view: HostView) -> str:
    return f"Host '{view.name}' is {view.status}{view.reason and f': {view.reason}'}"


OPERATIONS = (
    Operation("GET", "/hosts", "All hosts", listed, tuple[Host, ...]),
    Operation("POST", "/hosts", "Register a host", added, HostResponse, NewHost, (_UNREACHABLE,)),
    Operation(
        "POST",
        "/hosts/refresh-all",
        "Ask all hosts anew, also those that an import brought",
        all_refreshed,
        RefreshedAll,
    ),
    Operation("GET", "/hosts/{host_id}", "One host", shown, Host),
    Operation("PATCH", "/hosts/{host_id}", "Change name, URL, key or weight", patched, HostResponse, HostPatch),
    Operation("DELETE", "/hosts/{host_id}", "Forget a host; what runs on it goes on", removed, HostResponse),
    Operation(
        "POST", "/hosts/{host_id}/refresh", "Ask a host anew; the answer says how it is", refreshed, HostResponse
    ),
)
