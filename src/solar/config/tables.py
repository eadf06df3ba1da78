"""What solar.toml says of a backend: the `[[backends]]` tables, each key with its type, default and meaning."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from solar.core.backend import BACKEND_TYPES, Timeouts

# Seconds, or no limit: TOML has no word for nothing, and 0 would be read as "at once" by some.
Limit = Annotated[float, Meta(gt=0, le=604_800)] | Literal["none"] | UnsetType
Text = Annotated[str, Meta(min_length=1)]


class TimeoutsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a backend may take."""

    connect: Annotated[
        Limit, Meta(description='Seconds until the connection stands, TLS included; "none": no limit.', examples=[5])
    ] = UNSET
    first_byte: Annotated[
        Limit, Meta(description="Seconds from the request sent to the first byte of the answer's body.", examples=[600])
    ] = UNSET
    between_bytes: Annotated[
        Limit, Meta(description="Seconds between two reads of the answer's body.", examples=[120])
    ] = UNSET
    total: Annotated[
        Limit, Meta(description="Seconds from the first attempt to the end of the answer.", examples=[3600])
    ] = UNSET

    def on_top_of(self, base: Timeouts) -> Timeouts:
        """`base`, with what is written here in its place."""
        written = {name: getattr(self, name) for name in self.__struct_fields__}
        changed = {name: None if limit == "none" else limit for name, limit in written.items() if limit is not UNSET}
        return dataclasses.replace(base, **changed)


class BackendTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[backends]]` table."""

    name: Annotated[Text, Meta(description="Its name in logs, headers and metrics.", examples=["left"])]
    url: Annotated[
        Text,
        Meta(description="Its root, with or without a trailing `/v1`.", examples=["http://127.0.0.1:8080"]),
    ]
    type: Annotated[
        str,
        Meta(description="The engine: " + ", ".join(f"`{name}`" for name in BACKEND_TYPES) + "; `auto` asks it."),
    ] = "auto"
    api_key: Annotated[
        Text | None, Meta(description="The key that it wants; a client's key never reaches it.", examples=["sk-..."])
    ] = None
    api_key_file: Annotated[
        Text | None, Meta(description="A file that holds this key and nothing else.", examples=["left.key"])
    ] = None
    models: Annotated[
        tuple[Text, ...],
        Meta(
            description="Models that are routable without a probe; what it reports is added.", examples=[["qwen3-8b"]]
        ),
    ] = ()
    aliases: Annotated[
        dict[Text, Text],
        Meta(description="Table of more names: a client's name = its own name for the model."),
    ] = msgspec.field(default_factory=dict)
    host: Annotated[
        Text | None,
        Meta(description="The machine that it shares with others; default: the hostname in `url`.", examples=["box-1"]),
    ] = None
    weight: Annotated[
        float, Meta(gt=0, description="The host's capacity relative to the others': 2 is twice as strong.")
    ] = 1.0
    priority: Annotated[
        int, Meta(description="Lower ones are used first; a higher one only where those are not available.")
    ] = 0
    max_in_flight: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="More requests than this wait in the queue.", examples=[8]),
    ] = None
    timeouts: Annotated[TimeoutsTable, Meta(description="Table of limits, see below.")] = TimeoutsTable()
    model_timeouts: Annotated[
        dict[Text, TimeoutsTable],
        Meta(description="Table of such tables, by its own name for the model, on top of `timeouts`."),
    ] = msgspec.field(default_factory=dict)
    cancel: Annotated[
        Literal["cancel", "drain"],
        Meta(description="When the client leaves: `cancel` closes the request, `drain` reads its answer to the end."),
    ] = "cancel"
    base_path: Annotated[
        str | None,
        Meta(
            description="What stands before `/chat/completions`; default: `/v1`. `/` is nothing.",
            examples=["/api/v1"],
        ),
    ] = None
    ca_file: Annotated[
        Text | None, Meta(description="PEM bundle that signs an https backend's certificate.", examples=["ca.pem"])
    ] = None
    verify: Annotated[bool, Meta(description="`false` accepts any certificate.")] = True

    def __repr__(self) -> str:
        return f"<BackendTable {self.name} {self.url}>"
