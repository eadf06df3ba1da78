"""The tables. Columns stand in the order of the facts' fields. `migrations` makes them; a test holds both equal."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

hosts = Table(
    "hosts",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("url", String, nullable=False),
    Column("api_key", String, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("settings", Text, nullable=False),  # JSON
)

requests = Table(
    "requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("request_id", String, nullable=False),
    Column("request_type", String, nullable=False),
    Column("status", String, nullable=False),
    Column("ending", String, nullable=False),
    Column("http_status", Integer, nullable=False),
    Column("model", String, nullable=False),
    Column("resolved_model", String),
    Column("endpoint", String, nullable=False),
    Column("client_ip", String, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("queued_s", Float, nullable=False),
    Column("ttft_s", Float),
    Column("backend", String),
    Column("host_id", String),
    Column("host_name", String),
    Column("instance_id", String),
    Column("instance_url", String),
    Column("error_message", String),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("total_tokens", BigInteger),
    Column("decode_tps", Float),
    Column("decode_ms_per_token", Float),
    # One index that answers every filter: a new entry goes to its end, so that writing stays cheap.
    Index("requests_by_end", "ended_ms", "status", "request_type", "model", "host_id"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("type", String, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("data", Text, nullable=False),  # JSON
    Index("events_by_time", "at_ms", "type"),
)

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
)
