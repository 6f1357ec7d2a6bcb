-- The edge: scopes of keys, policies of projects, conflicts, and what was refused. The columns are explained in the
-- migration of the same name for PostgreSQL.

-- Keys -------------------------------------------------------------------------------------------------------------

ALTER TABLE api_keys ADD COLUMN scope TEXT NOT NULL DEFAULT 'full' CHECK (scope IN ('write', 'read', 'full'));
ALTER TABLE api_keys ADD COLUMN allowed_origins TEXT NOT NULL DEFAULT '[]'; -- a JSON array of strings

-- API processes must learn of it.
DROP TRIGGER key_changed;
CREATE TRIGGER key_changed
    AFTER UPDATE OF project_id, key_hash, signing_secrets, expires_at, revoked_at, scope, allowed_origins ON api_keys
    BEGIN UPDATE accounts_version SET version = version + 1; END;

-- Projects ---------------------------------------------------------------------------------------------------------

ALTER TABLE projects ADD COLUMN dedupe TEXT NOT NULL DEFAULT 'id-and-timestamp'
    CHECK (dedupe IN ('id', 'id-and-timestamp'));
ALTER TABLE projects ADD COLUMN oldest_s INTEGER CHECK (oldest_s > 0);
ALTER TABLE projects ADD COLUMN newest_s INTEGER CHECK (newest_s > 0);
ALTER TABLE projects ADD COLUMN out_of_bounds TEXT NOT NULL DEFAULT 'receive-time'
    CHECK (out_of_bounds IN ('receive-time', 'refuse'));

-- Repetitions ------------------------------------------------------------------------------------------------------

ALTER TABLE undated_ids ADD COLUMN received_at INTEGER; -- set: kept as long as the ledger
DROP INDEX undated_ids_timestamp;
CREATE INDEX undated_ids_timestamp ON undated_ids (timestamp) WHERE received_at IS NULL;
CREATE INDEX undated_ids_received_at ON undated_ids (received_at) WHERE received_at IS NOT NULL;

ALTER TABLE batches ADD COLUMN conflict INTEGER NOT NULL DEFAULT 0;       -- part of duplicate
ALTER TABLE usage_hourly ADD COLUMN conflicts INTEGER NOT NULL DEFAULT 0; -- part of duplicates

DROP VIEW usage_readable;
CREATE VIEW usage_readable AS
SELECT u.project_id, p.name AS project, strftime('%Y-%m-%dT%H:00Z', u.hour / 1000000, 'unixepoch') AS hour,
       u.events, u.bytes, u.duplicates, u.dead, u.redriven, u.conflicts
  FROM usage_hourly u LEFT JOIN projects p ON p.project_id = u.project_id;

-- What was refused -------------------------------------------------------------------------------------------------

ALTER TABLE dead_letters ADD COLUMN code TEXT; -- set: the payload is the call as it was sent, up to a limit

CREATE TABLE rejections_hourly (
    project_id INTEGER NOT NULL,
    hour       INTEGER NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('event', 'request', 'dead', 'conflict')),
    code       TEXT NOT NULL,
    count      INTEGER NOT NULL,
    PRIMARY KEY (project_id, hour, kind, code)
) STRICT, WITHOUT ROWID;
CREATE INDEX rejections_hourly_hour ON rejections_hourly (hour);

CREATE TABLE rejection_samples (
    sample_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('event', 'request', 'dead', 'conflict')),
    code       TEXT NOT NULL,
    field      TEXT,
    message    TEXT NOT NULL,
    payload    BLOB
) STRICT;
CREATE INDEX rejection_samples_project ON rejection_samples (project_id, kind, sample_id);
CREATE INDEX rejection_samples_at ON rejection_samples (at);

-- A report whose answer was lost is sent again, and must not be counted twice.
CREATE TABLE rejection_sources (
    source BLOB PRIMARY KEY,
    report INTEGER NOT NULL,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
