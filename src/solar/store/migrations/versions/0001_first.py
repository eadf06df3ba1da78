"""Hosts, requests that ended, small facts about the database itself."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "hosts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("api_key", sa.Text, nullable=False),
        sa.Column("created_ms", sa.Integer, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("request_type", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("ending", sa.Text, nullable=False),
        sa.Column("http_status", sa.Integer, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("client_ip", sa.Text, nullable=False),
        sa.Column("stream", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("ended_ms", sa.Integer, nullable=False),
        sa.Column("duration_us", sa.Integer, nullable=False),
        sa.Column("queued_us", sa.Integer, nullable=False),
        sa.Column("sent_us", sa.Integer),
        sa.Column("ttft_us", sa.Integer),
        sa.Column("resolved_model", sa.Text),
        sa.Column("backend", sa.Text),
        sa.Column("host_id", sa.Text),
        sa.Column("host_name", sa.Text),
        sa.Column("instance_id", sa.Text),
        sa.Column("instance_url", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("trail", sa.Text),
    )
    op.create_index("requests_by_end", "requests", ["ended_ms"])
    # What somebody looks for among millions that went well. It costs those nothing.
    op.create_index(
        "requests_in_trouble",
        "requests",
        ["ended_ms"],
        sqlite_where=sa.text("status <> 'success' OR attempts > 1"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
