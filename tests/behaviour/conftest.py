"""The doors that a law is tried at.

A test that asks for `gateway` (or `door`) runs once for each server. Where the server does not matter, say so on the
test or for the whole module: `pytestmark = pytest.mark.doors("uvicorn")`.
"""

import pytest
from doors import DOORS
from gateways import Serves, gateways


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "doors(*names): the servers to run this law under; without it, all of them")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "door" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("doors")
        names = marker.args if marker else DOORS
        # What holds for uvicorn's own protocol has to hold for ours beside it and in its place.
        if marker and "uvicorn" in names and not marker.kwargs.get("only"):
            names = (*names, "asgi", "front")
        metafunc.parametrize("door", names)


@pytest.fixture
def gateway(door: str) -> Serves:
    return gateways(door)
