"""`solar models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from solar.cli.options import asks_gateway, json_option

if TYPE_CHECKING:
    from solar.cli.client import Client


@click.command()
@json_option
@asks_gateway
def models(client: Client, as_json: bool) -> None:
    """Show the models and aliases that requests can name now."""
    from solar.cli.show import put_json, put_table

    listed = client.get("/v1/models")
    if as_json:
        put_json(listed)
        return
    rows = [
        (
            str(model.get("id", "")),
            str(model.get("owned_by") or ""),
            str(model.get("parameter_size") or ""),
            str(model.get("context_length") or model.get("max_model_len") or ""),
        )
        for model in listed["data"]
    ]
    nothing = "No model can be asked for now: `solar status` shows the backends."
    put_table("model", "owned by", "size", "context", rows=rows, nothing=nothing)
