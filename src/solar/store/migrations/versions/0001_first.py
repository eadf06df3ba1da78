"""Hosts, requests, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "hosts",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("url", sa.String, nullable=False),
        sa.Column("api_key", sa.String, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("request_type", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("ending", sa.String, nullable=False),
        sa.Column("http_status", sa.Integer, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("resolved_model", sa.String),
        sa.Column("endpoint", sa.String, nullable=False),
        sa.Column("client_ip", sa.String, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger, nullable=False),
        sa.Column("duration_s", sa.Float, nullable=False),
        sa.Column("queued_s", sa.Float, nullable=False),
        sa.Column("ttft_s", sa.Float),
        sa.Column("backend", sa.String),
        sa.Column("host_id", sa.String),
        sa.Column("host_name", sa.String),
        sa.Column("instance_id", sa.String),
        sa.Column("instance_url", sa.String),
        sa.Column("error_message", sa.String),
        sa.Column("prompt_tokens", sa.BigInteger),
        sa.Column("completion_tokens", sa.BigInteger),
        sa.Column("total_tokens", sa.BigInteger),
        sa.Column("decode_tps", sa.Float),
        sa.Column("decode_ms_per_token", sa.Float),
    )
    op.create_index("requests_by_end", "requests", ["ended_ms", "status", "request_type", "model", "host_id"])
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_index("events_by_time", "events", ["at_ms", "type"])
    op.create_table(
        "meta",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
