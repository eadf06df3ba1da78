-- What the migrations come to, for a new database: so that only one of an older Solar loads Alembic.

CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0001');

CREATE TABLE hosts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    api_key TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    settings TEXT NOT NULL -- JSON
);

CREATE TABLE requests (
    id INTEGER NOT NULL PRIMARY KEY,
    request_id TEXT NOT NULL,
    request_type TEXT NOT NULL,
    status TEXT NOT NULL,
    ending TEXT NOT NULL,
    http_status INTEGER NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    client_ip TEXT NOT NULL,
    stream INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    queued_us INTEGER NOT NULL,
    sent_us INTEGER,
    ttft_us INTEGER,
    resolved_model TEXT,
    backend TEXT,
    host_id TEXT,
    host_name TEXT,
    instance_id TEXT,
    instance_url TEXT,
    error_message TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    trail TEXT -- JSON
);

CREATE INDEX requests_by_end ON requests (ended_ms);
-- What somebody looks for among millions that went well, and costs those nothing.
CREATE INDEX requests_in_trouble ON requests (ended_ms) WHERE status <> 'success' OR attempts > 1;

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL -- JSON
);
