"""Names of hosts, instances and models for shells to complete: those of the gateway that the settings here say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _names(path: str, of: Callable[[Any], Iterable[str]]) -> Complete:
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        del parameter
        from solar.cli.client import Client
        from solar.cli.place import find_place

        try:
            place = find_place(context.params.get("gateway_url"), context.params.get("gateway_key"))
            told = Client(place).get(path)
        except click.ClickException:  # a shell that completes is no place for errors
            return []
        return sorted({name for name in of(told) if name.startswith(begun)})

    return complete


host_names = _names("/hosts", lambda told: (host["name"] for host in told))
instance_names = _names("/gateway/instances", lambda told: (one["alias"] or one["id"] for one in told["instances"]))
model_names = _names("/v1/models", lambda told: (model["id"] for model in told["data"]))
