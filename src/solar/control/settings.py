"""Every setting of the gateway, once: its flag, variable, key in solar.toml and row in the docs come from here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from solar.config.fields import Field, fields_of

Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Size = Annotated[int, Meta(ge=1024, le=1 << 40)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Words = tuple[Annotated[str, Meta(min_length=1)], ...]

MIB = 1 << 20


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[server]` table: what `solar serve` runs with."""

    host: Annotated[str, Meta(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8000
    api_keys: Annotated[
        Words,
        Meta(
            description="Keys that admit a client. Without any: none is needed on loopback; on every other address "
            "one is made and kept in `data_dir`.",
            examples=[["sk-my-key"]],
        ),
    ] = ()
    allowed_hosts: Annotated[
        Words,
        Meta(
            description="Names, beside loopback's own, that a request's Host or Origin may bear while no key is "
            "needed. With a key, every name may, unless some are listed here.",
            examples=[["solar.lan"]],
        ),
    ] = ()
    cors_origins: Annotated[
        Words,
        Meta(
            description="Web origins whose pages may call the inference paths; `*` is every one.",
            examples=[["https://chat.example.org"]],
        ),
    ] = ("*",)
    door: Annotated[
        Literal["front", "asgi"],
        Meta(
            description="Who reads HTTP: `front`: the gateway itself, faster and stricter; `asgi`: uvicorn, and the "
            "router behind it as an ASGI application."
        ),
    ] = "front"
    tls_cert: Annotated[
        str | None,
        Meta(
            description="PEM file of the certificate that clients see, with the chain that signs it. With it the "
            "gateway speaks HTTPS, and no plain HTTP.",
            examples=["server.pem"],
        ),
    ] = None
    tls_key: Annotated[
        str | None,
        Meta(description="PEM file of the certificate's key, not encrypted.", examples=["server.key"]),
    ] = None
    reuse_port: Annotated[
        bool, Meta(description="Whether other processes with this setting may listen on the same port.")
    ] = False
    discover: Annotated[
        Words,
        Meta(
            description="Where to look for backends: `docker` (`docker:URL` is another Docker Engine), `local` (this "
            "machine's usual ports), `dns:NAME:PORT`, `dns:_SRV_NAME`, `file:PATH`, `mdns` (the local network).",
            examples=[["docker", "local"]],
        ),
    ] = ()
    data_dir: Annotated[str, Meta(min_length=1, description="Directory for what must outlive a restart.")] = "data"
    request_log_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="Days for which it is kept there which requests there were, and what became of them, without "
            "what was asked or answered; 0: not at all.",
        ),
    ] = 365
    request_log_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            le=1 << 50,
            description="Bytes that this may take (1 GiB, some 4 million requests): beyond them the oldest go.",
        ),
    ] = 1024 * MIB
    default_backend: Annotated[
        str | None,
        Meta(description="Name of the backend that gets requests for unknown models.", examples=["left"]),
    ] = None
    prefix_fallback: Annotated[
        Literal["off", "unique", "first"],
        Meta(
            description="What a name that no model bears may match: `off`: nothing; `unique`: the one model that it "
            "is the beginning of, up to `:`, `-`, `@` or `/`; `first`: the alphabetically first of several."
        ),
    ] = "unique"
    session_affinity: Annotated[
        tuple[Literal["header", "user", "prompt_cache_key"], ...],
        Meta(
            description="What names a session, whose requests then stay on one backend: `header` (`X-Session-ID`), or "
            "a field of the body, `user` or `prompt_cache_key`.",
            examples=[["header"]],
        ),
    ] = ()
    health_check_interval: Annotated[Seconds, Meta(description="Seconds between two probes of a healthy backend.")] = (
        5.0
    )
    hold_while_loading: Annotated[
        bool, Meta(description="Whether a request for a model that is loading waits, rather than get a 503.")
    ] = False
    queue_limit: Annotated[Count, Meta(description="Requests that may wait for one model whose backends are full.")] = (
        1000
    )
    queue_seconds: Annotated[Seconds, Meta(description="How long a request may wait there, in seconds.")] = 60.0
    keepalive_seconds: Annotated[
        Seconds, Meta(description="Silence on a stream after which a comment keeps the client's connection alive.")
    ] = 15.0
    keepalive_while_waiting: Annotated[
        bool,
        Meta(
            description="Whether a stream that waits in the queue starts at once, with comments; a refusal is then "
            "an error event inside it."
        ),
    ] = False
    max_body: Annotated[Size, Meta(description="Largest request body, in bytes (128 MiB).")] = 128 * MIB
    max_buffered_bytes: Annotated[
        Size, Meta(description="Bytes of all request bodies that are held at a time (512 MiB).")
    ] = 512 * MIB
    drain_seconds: Annotated[
        float,
        Meta(ge=0, le=86_400, description="How long what is in flight may take to end when the gateway stops."),
    ] = 30.0
    log_format: Annotated[Literal["text", "json"], Meta(description="How log lines look: `text` or `json`.")] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least severe lines that are logged: `debug`, `info`, `warning` or `error`."),
    ] = "info"

    def __repr__(self) -> str:
        return f"<Settings {self.host}:{self.port}, {len(self.api_keys)} keys>"


# What the original coordinator reads from its `.env`; ours is asked for first.
_PLAIN_NAMES = {"api_keys": "API_KEY", "host": "HOST", "port": "PORT"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, and where it may be written."""

    field: Field
    flag: str
    variable: str
    plain: str | None  # a second variable, asked after the first
    key: str | None  # in solar.toml; None: not there

    @property
    def name(self) -> str:
        return self.field.name

    def parts(self, text: str, variable: str) -> str | tuple[str, ...]:
        """A variable's text; a list is divided at commas, or also at spaces where no entry can hold one."""
        if not self.field.many:
            return text.strip()
        if variable == self.plain:  # it never held more than one
            return (text.strip(),)
        between = r"," if self.name == "api_keys" else r"[\s,]+"
        return tuple(part.strip() for part in re.split(between, text) if part.strip())


def _setting(field: Field, key: str | None) -> Setting:
    one = field.name.removesuffix("s") if field.many else field.name
    flag = "--" + one.replace("_", "-")
    return Setting(field, flag, f"SOLAR_{one.upper()}", _PLAIN_NAMES.get(field.name), key)


SERVER = tuple(_setting(field, f"[server] {field.name}") for field in fields_of(Settings).values())
CONFIG = _setting(
    Field(
        "config",
        str,
        None,
        "The file to read; without it, `solar.toml` in the working directory, where there is one.",
        "solar.toml",
    ),
    None,
)
BACKENDS = _setting(
    Field(
        "backends",
        tuple[str, ...],
        (),
        "A backend as `NAME=URL`, or its URL alone: then host and port name it.",
        "left=http://127.0.0.1:8080",
    ),
    "[[backends]]",
)
SETTINGS: tuple[Setting, ...] = (CONFIG, BACKENDS, *SERVER)
