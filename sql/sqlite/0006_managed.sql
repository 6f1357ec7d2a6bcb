-- What a stream that went back in time is recognized by. The columns are explained in the migration of the same name for
-- PostgreSQL.

CREATE TABLE stream_positions (
    shard     INTEGER PRIMARY KEY,
    entry_ms  INTEGER NOT NULL,
    entry_seq INTEGER NOT NULL
) STRICT;

CREATE TABLE lost_batches (
    batch_id    BLOB PRIMARY KEY,
    project_id  INTEGER NOT NULL,
    events      INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    shard       INTEGER NOT NULL,
    found_at    INTEGER NOT NULL,
    reviewed_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX lost_batches_received_at ON lost_batches (received_at);

ALTER TABLE stream_epochs ADD COLUMN has_replicas INTEGER NOT NULL DEFAULT 0;
