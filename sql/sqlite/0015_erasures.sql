-- Erasures of persons. The tables are explained in the migration of the same name for PostgreSQL.

CREATE TABLE erasures (
    erasure_id      INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id      INTEGER NOT NULL REFERENCES projects,
    kind            TEXT NOT NULL CHECK (kind IN ('erase', 'anonymize', 'anonymize_without_properties')),
    subject         TEXT CHECK (subject <> ''),
    pseudonym       TEXT NOT NULL,
    received_before INTEGER NOT NULL,
    events          INTEGER NOT NULL DEFAULT 0,
    cancelled       INTEGER NOT NULL DEFAULT 0,
    dead_letters    INTEGER NOT NULL DEFAULT 0,
    samples         INTEGER NOT NULL DEFAULT 0,
    done_by         TEXT NOT NULL,
    started_at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    finished_at     INTEGER,
    CHECK ((subject IS NULL) = (finished_at IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX erasures_open ON erasures (project_id, subject) WHERE subject IS NOT NULL;
CREATE UNIQUE INDEX erasures_pseudonym ON erasures (project_id, pseudonym);

CREATE TABLE meter_erased (
    meter_id INTEGER PRIMARY KEY,
    events   INTEGER NOT NULL,
    faults   INTEGER NOT NULL
) STRICT;
