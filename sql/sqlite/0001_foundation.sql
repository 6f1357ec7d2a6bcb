-- The tables of Millrace in one SQLite file. They mirror those of PostgreSQL; what differs is said where it does.
--
-- Times are whole microseconds since 1970, UTC; ids are the 16 bytes of a UUID. The views at the end show both as text:
-- open the file with sqlite3 and begin with SELECT * FROM events_readable LIMIT 5.

-- Accounts -------------------------------------------------------------------------------------------------------

CREATE TABLE plans (
    name                TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 100),
    requests_per_minute INTEGER NOT NULL CHECK (requests_per_minute BETWEEN 1 AND 2147483647),
    burst               INTEGER NOT NULL CHECK (burst BETWEEN 1 AND 2147483647),
    events_per_month    INTEGER CHECK (events_per_month > 0), -- NULL is unlimited
    events_per_batch    INTEGER NOT NULL CHECK (events_per_batch BETWEEN 1 AND 2147483647)
) STRICT, WITHOUT ROWID;

INSERT INTO plans (name, requests_per_minute, burst, events_per_month, events_per_batch) VALUES
    ('free', 100, 100, 100000, 1000),
    ('pro', 1000, 1000, 10000000, 1000),
    ('enterprise', 10000, 10000, NULL, 1000);

CREATE TABLE projects (
    project_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
    plan       TEXT NOT NULL REFERENCES plans (name) ON UPDATE CASCADE,
    created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE INDEX projects_plan ON projects (plan);

CREATE TABLE api_keys (
    key_id          INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id      INTEGER NOT NULL REFERENCES projects,
    -- SHA-256 of the key; the key itself is nowhere.
    key_hash        BLOB NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    -- 32 bytes each, newest first; not empty: every request must be signed.
    signing_secrets BLOB NOT NULL DEFAULT x'' CHECK (length(signing_secrets) % 32 = 0),
    created_at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    revoked_at      INTEGER,
    last_used_at    INTEGER
) STRICT;
CREATE INDEX api_keys_project ON api_keys (project_id);

-- The request path keeps a snapshot of all this in memory and looks at this number to see whether it is stale.
-- last_used_at is no such change. One row.
CREATE TABLE accounts_version (
    one_row INTEGER PRIMARY KEY CHECK (one_row = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO accounts_version VALUES (1, 1);

CREATE TRIGGER plan_added AFTER INSERT ON plans BEGIN UPDATE accounts_version SET version = version + 1; END;
CREATE TRIGGER plan_changed AFTER UPDATE ON plans BEGIN UPDATE accounts_version SET version = version + 1; END;
CREATE TRIGGER plan_removed AFTER DELETE ON plans BEGIN UPDATE accounts_version SET version = version + 1; END;
CREATE TRIGGER project_added AFTER INSERT ON projects BEGIN UPDATE accounts_version SET version = version + 1; END;
CREATE TRIGGER project_changed AFTER UPDATE ON projects BEGIN UPDATE accounts_version SET version = version + 1; END;
CREATE TRIGGER project_removed AFTER DELETE ON projects BEGIN UPDATE accounts_version SET version = version + 1; END;
CREATE TRIGGER key_added AFTER INSERT ON api_keys BEGIN UPDATE accounts_version SET version = version + 1; END;
CREATE TRIGGER key_changed AFTER UPDATE OF project_id, key_hash, signing_secrets, revoked_at ON api_keys
    BEGIN UPDATE accounts_version SET version = version + 1; END;
CREATE TRIGGER key_removed AFTER DELETE ON api_keys BEGIN UPDATE accounts_version SET version = version + 1; END;

-- Events ---------------------------------------------------------------------------------------------------------

-- The primary key is the deduplication, the order of storage and the way to "this project, this period". There are no
-- partitions: retention goes by the time of receipt, for the timestamp of an event may be anything.
CREATE TABLE events (
    project_id  INTEGER NOT NULL,
    timestamp   INTEGER NOT NULL, -- as the client said; the receive time when it said nothing
    event_id    BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    name        TEXT NOT NULL,
    subject     TEXT,
    client_id   TEXT, -- the id as the client wrote it, when that is not a UUID
    properties  TEXT, -- JSON, as it was sent: properties ->> '$.price'
    context     TEXT, -- the same
    PRIMARY KEY (project_id, timestamp, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_received_at ON events (received_at);

-- Events with an id and no time take the time they were received, so the key of events cannot recognise them when
-- they are sent again. This does, for two days.
CREATE TABLE undated_ids (
    project_id INTEGER NOT NULL,
    event_id   BLOB NOT NULL,
    timestamp  INTEGER NOT NULL,
    PRIMARY KEY (project_id, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX undated_ids_timestamp ON undated_ids (timestamp);

-- Metering -------------------------------------------------------------------------------------------------------

-- The ledger: one row for each stream entry that was written, in the transaction that wrote it.
CREATE TABLE batches (
    batch_id    BLOB NOT NULL,
    received_at INTEGER NOT NULL, -- the milliseconds of the stream entry id; entry_seq is its sequence number
    entry_seq   INTEGER NOT NULL,
    shard       INTEGER NOT NULL,
    project_id  INTEGER NOT NULL,
    accepted    INTEGER NOT NULL,
    stored      INTEGER NOT NULL,
    duplicate   INTEGER NOT NULL,
    dead        INTEGER NOT NULL,
    PRIMARY KEY (batch_id, received_at, entry_seq, shard),
    CONSTRAINT nothing_lost CHECK (accepted = stored + duplicate + dead)
) STRICT, WITHOUT ROWID;
CREATE INDEX batches_received_at ON batches (received_at);

-- What was received before this moment, the beginning of a day, is retired from the ledger: an entry as old can never be
-- written again. One row.
CREATE TABLE ledger_watermark (
    one_row    INTEGER PRIMARY KEY CHECK (one_row = 1),
    first_time INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_watermark VALUES (1, 0);

CREATE TABLE usage_hourly (
    project_id INTEGER NOT NULL,
    hour       INTEGER NOT NULL, -- of the receive time, UTC
    events     INTEGER NOT NULL DEFAULT 0,
    bytes      INTEGER NOT NULL DEFAULT 0, -- of the rows stored, as they came
    duplicates INTEGER NOT NULL DEFAULT 0,
    dead       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    dead_letter_id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id     INTEGER NOT NULL,
    batch_id       BLOB NOT NULL,
    received_at    INTEGER NOT NULL,
    event_index    INTEGER, -- place in the batch; NULL when the whole entry is dead
    event_count    INTEGER NOT NULL CHECK (event_count >= 0),
    sqlstate       TEXT,
    reason         TEXT NOT NULL,
    payload        BLOB NOT NULL, -- the row in PostgreSQL's binary COPY format, or what stood in the entry
    worker_version TEXT NOT NULL,
    created_at     INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE INDEX dead_letters_project ON dead_letters (project_id, created_at);
CREATE INDEX dead_letters_received_at ON dead_letters (received_at);

-- What retention has removed, so that usage can be checked against the tables for ever.
CREATE TABLE retired (
    project_id INTEGER NOT NULL,
    what       TEXT NOT NULL CHECK (what IN ('events', 'dead_letters')),
    day        TEXT NOT NULL, -- of receipt: 2026-11-21
    count      INTEGER NOT NULL,
    PRIMARY KEY (project_id, what, day)
) STRICT, WITHOUT ROWID;

-- The stream -----------------------------------------------------------------------------------------------------

CREATE TABLE stream_epochs (
    shard      INTEGER PRIMARY KEY,
    epoch      BLOB NOT NULL,
    changed_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;

-- For people -----------------------------------------------------------------------------------------------------

-- Times as 2026-11-21T08:00:00.123456Z (NULL outside the years 0 to 9999), ids as UUIDs are written. Filter on project_id
-- and timestamp_us, which are the key: WHERE project_id = 1 AND timestamp_us >= unixepoch('now', '-1 hour') * 1000000.
CREATE VIEW events_readable AS
SELECT e.project_id,
       p.name AS project,
       strftime('%Y-%m-%dT%H:%M:%S', (e.timestamp - (e.timestamp % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
           || printf('.%06dZ', (e.timestamp % 1000000 + 1000000) % 1000000) AS timestamp,
       strftime('%Y-%m-%dT%H:%M:%S', e.received_at / 1000000, 'unixepoch')
           || printf('.%06dZ', e.received_at % 1000000) AS received_at,
       lower(substr(hex(e.event_id), 1, 8) || '-' || substr(hex(e.event_id), 9, 4) || '-' || substr(hex(e.event_id), 13, 4)
           || '-' || substr(hex(e.event_id), 17, 4) || '-' || substr(hex(e.event_id), 21)) AS event_id,
       e.name, e.subject, e.client_id, e.properties, e.context,
       e.timestamp AS timestamp_us
  FROM events e LEFT JOIN projects p ON p.project_id = e.project_id;

CREATE VIEW usage_readable AS
SELECT u.project_id, p.name AS project, strftime('%Y-%m-%dT%H:00Z', u.hour / 1000000, 'unixepoch') AS hour,
       u.events, u.bytes, u.duplicates, u.dead
  FROM usage_hourly u LEFT JOIN projects p ON p.project_id = u.project_id;
