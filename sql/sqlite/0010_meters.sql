-- Meters: figures of the events of customers, as on PostgreSQL. There is one writer, so figures are updated at once, and
-- the version of the definitions is read in the transaction that writes.

CREATE TABLE meters (
    meter_id      INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id    INTEGER NOT NULL REFERENCES projects,
    slug          TEXT NOT NULL CHECK (length(slug) BETWEEN 1 AND 64),
    event_name    TEXT NOT NULL,
    aggregation   TEXT NOT NULL
        CHECK (aggregation IN ('count', 'sum', 'min', 'max', 'avg', 'latest', 'unique_count')),
    value_path    TEXT CHECK ((value_path IS NULL) = (aggregation = 'count')),
    -- JSON arrays of texts.
    group_names   TEXT NOT NULL DEFAULT '[]',
    group_paths   TEXT NOT NULL DEFAULT '[]',
    -- -9223372036854775808 counts all.
    received_from INTEGER NOT NULL,
    -- 9223372036854775807 when no backfill is under way.
    counted_until INTEGER NOT NULL,
    created_at    INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    deleted_at    INTEGER
) STRICT;
CREATE UNIQUE INDEX meters_slug ON meters (project_id, slug) WHERE deleted_at IS NULL;

CREATE TABLE meters_version (
    one_row INTEGER PRIMARY KEY CHECK (one_row = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO meters_version VALUES (1, 1);
CREATE TRIGGER meter_added AFTER INSERT ON meters BEGIN UPDATE meters_version SET version = version + 1; END;
CREATE TRIGGER meter_changed AFTER UPDATE ON meters BEGIN UPDATE meters_version SET version = version + 1; END;
CREATE TRIGGER meter_removed AFTER DELETE ON meters BEGIN UPDATE meters_version SET version = version + 1; END;

CREATE TABLE meter_usage (
    meter_id  INTEGER NOT NULL,
    subject   TEXT NOT NULL,
    bucket    INTEGER NOT NULL,
    groups    TEXT NOT NULL,
    events    INTEGER NOT NULL,
    -- An exact decimal number: SQLite has no type for it.
    value     TEXT NOT NULL,
    latest_at INTEGER,
    latest_id BLOB,
    PRIMARY KEY (meter_id, subject, bucket, groups)
) STRICT, WITHOUT ROWID;

CREATE TABLE meter_uniques (
    meter_id INTEGER NOT NULL,
    subject  TEXT NOT NULL,
    bucket   INTEGER NOT NULL,
    groups   TEXT NOT NULL,
    value    TEXT NOT NULL,
    events   INTEGER NOT NULL,
    PRIMARY KEY (meter_id, subject, bucket, groups, value)
) STRICT, WITHOUT ROWID;

CREATE TABLE meter_faults (
    meter_id INTEGER NOT NULL,
    fault    TEXT NOT NULL,
    events   INTEGER NOT NULL,
    sample   BLOB NOT NULL,
    last_at  INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    PRIMARY KEY (meter_id, fault)
) STRICT, WITHOUT ROWID;

-- day is microseconds since 1970, at the start of the day, UTC.
CREATE TABLE meter_retired (
    meter_id INTEGER NOT NULL,
    day      INTEGER NOT NULL,
    events   INTEGER NOT NULL,
    faults   INTEGER NOT NULL,
    PRIMARY KEY (meter_id, day)
) STRICT, WITHOUT ROWID;
