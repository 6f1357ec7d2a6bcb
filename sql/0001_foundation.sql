-- The tables of Millrace. Partitions are not made here: the upkeep makes them ahead of time and drops them again.

-- Accounts -------------------------------------------------------------------------------------------------------

CREATE TABLE plans (
    name                text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 100),
    requests_per_minute integer NOT NULL CHECK (requests_per_minute > 0),
    burst               integer NOT NULL CHECK (burst > 0),
    events_per_month    bigint CHECK (events_per_month > 0),
    events_per_batch    integer NOT NULL CHECK (events_per_batch > 0)
);
COMMENT ON COLUMN plans.events_per_month IS 'NULL is unlimited';

INSERT INTO plans (name, requests_per_minute, burst, events_per_month, events_per_batch) VALUES
    ('free', 100, 100, 100000, 1000),
    ('pro', 1000, 1000, 10000000, 1000),
    ('enterprise', 10000, 10000, NULL, 1000);

CREATE TABLE projects (
    project_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
    plan       text NOT NULL REFERENCES plans (name) ON UPDATE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    key_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id      bigint NOT NULL REFERENCES projects,
    key_hash        bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    signing_secrets bytea[] NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    revoked_at      timestamptz,
    last_used_at    timestamptz
);
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the key; the key itself is nowhere';
COMMENT ON COLUMN api_keys.signing_secrets IS 'newest first; not empty: every request must be signed';
CREATE INDEX api_keys_project ON api_keys (project_id);

-- The request path keeps a snapshot of all this in memory and is told when it is stale. last_used_at is no such change.
CREATE FUNCTION millrace_accounts_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY millrace_accounts;
    RETURN NULL;
END
$$;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON plans
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_accounts_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON projects
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_accounts_changed();
CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OF project_id, key_hash, signing_secrets, revoked_at OR DELETE OR TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_accounts_changed();

-- Events ---------------------------------------------------------------------------------------------------------

-- The primary key is the deduplication, the order of storage and the way to "this project, this period". The columns
-- stand in the order in which workers COPY them.
CREATE TABLE events (
    project_id  bigint NOT NULL,
    timestamp   timestamptz NOT NULL,
    event_id    uuid NOT NULL,
    received_at timestamptz NOT NULL,
    name        text NOT NULL,
    subject     text,
    client_id   text,
    properties  jsonb,
    context     jsonb,
    PRIMARY KEY (project_id, timestamp, event_id)
) PARTITION BY RANGE (timestamp);
COMMENT ON COLUMN events.timestamp IS 'as the client said; the receive time when it said nothing';
COMMENT ON COLUMN events.client_id IS 'the id as the client wrote it, when that is not a UUID';

-- Whatever lies outside the days kept is stored here, and retired by the time it was received.
CREATE TABLE events_default PARTITION OF events DEFAULT WITH (
    autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_vacuum_insert_scale_factor = 0.1
);
CREATE INDEX events_default_received_at ON events_default (received_at);

-- Events with an id and no time take the time they were received, so the key of events cannot recognise them when
-- they are sent again. This does, for two days.
CREATE TABLE undated_ids (
    project_id bigint NOT NULL,
    event_id   uuid NOT NULL,
    timestamp  timestamptz NOT NULL,
    PRIMARY KEY (project_id, event_id)
);
CREATE INDEX undated_ids_timestamp ON undated_ids (timestamp);

-- Metering -------------------------------------------------------------------------------------------------------

-- The ledger: one row for each stream entry that was written, in the transaction that wrote it. It has no default
-- partition on purpose: an entry whose day was retired can never be written again.
CREATE TABLE batches (
    batch_id    uuid NOT NULL,
    received_at timestamptz NOT NULL,
    entry_seq   bigint NOT NULL,
    project_id  bigint NOT NULL,
    accepted    bigint NOT NULL,
    stored      bigint NOT NULL,
    duplicate   bigint NOT NULL,
    dead        bigint NOT NULL,
    shard       integer NOT NULL,
    PRIMARY KEY (batch_id, received_at, entry_seq, shard),
    CONSTRAINT nothing_lost CHECK (accepted = stored + duplicate + dead)
) PARTITION BY RANGE (received_at);
COMMENT ON COLUMN batches.received_at IS 'the milliseconds of the stream entry id; entry_seq is its sequence number';

-- Days before this one are retired from the ledger. One row.
CREATE TABLE ledger_watermark (
    one_row   boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    first_day date NOT NULL
);
INSERT INTO ledger_watermark (first_day) VALUES ('1970-01-01');

CREATE TABLE usage_hourly (
    project_id bigint NOT NULL,
    hour       timestamptz NOT NULL,
    events     bigint NOT NULL DEFAULT 0,
    bytes      bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    dead       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, hour)
) WITH (
    -- The rows of this hour are updated by every transaction: room for the new versions on the same page, and a vacuum
    -- that comes often and does not dawdle.
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON COLUMN usage_hourly.hour IS 'of the receive time, UTC';
COMMENT ON COLUMN usage_hourly.bytes IS 'of the rows stored, as they are copied';

-- payload is bytea because that is the one type no payload can be refused by.
CREATE TABLE dead_letters (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id     bigint NOT NULL,
    batch_id       uuid NOT NULL,
    received_at    timestamptz NOT NULL,
    event_index    integer,
    event_count    bigint NOT NULL CHECK (event_count >= 0),
    sqlstate       text,
    reason         text NOT NULL,
    payload        bytea NOT NULL,
    worker_version text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN dead_letters.event_index IS 'place in the batch; NULL when the whole entry is dead';
COMMENT ON COLUMN dead_letters.payload IS 'the row in binary COPY format, or what stood in the entry';
CREATE INDEX dead_letters_project ON dead_letters (project_id, created_at);
CREATE INDEX dead_letters_received_at ON dead_letters (received_at);

-- Retention ------------------------------------------------------------------------------------------------------

-- What retention has removed, so that usage can be checked against the tables for ever.
CREATE TABLE retired (
    project_id bigint NOT NULL,
    what       text NOT NULL CHECK (what IN ('events', 'dead_letters')),
    day        date NOT NULL,
    count      bigint NOT NULL,
    PRIMARY KEY (project_id, what, day)
);

-- Partitions of events that are detached and wait to be counted and dropped. Who drops partitions holds ROW EXCLUSIVE
-- on this table and who counts holds SHARE, because dropping a table does not respect anybody's snapshot.
CREATE TABLE retiring (
    partition text PRIMARY KEY,
    day       date NOT NULL
);

-- The stream -----------------------------------------------------------------------------------------------------

CREATE TABLE stream_epochs (
    shard      integer PRIMARY KEY,
    epoch      uuid NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
