-- What a stream or a store that went back in time is recognized by, and accounts that reach API processes as changes.

-- The stream -----------------------------------------------------------------------------------------------------

-- The highest entry of each shard that was written, in the transaction that wrote it. A stream whose last entry is
-- lower has lost entries.
CREATE TABLE stream_positions (
    shard    integer PRIMARY KEY,
    entry_ms bigint NOT NULL,
    entry_seq bigint NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
COMMENT ON TABLE stream_positions IS 'Bookkeeping: the highest stream entry of each shard that was written';
COMMENT ON COLUMN stream_positions.shard IS 'Shard of the stream';
COMMENT ON COLUMN stream_positions.entry_ms IS 'Receive time of the entry, in milliseconds since 1970';
COMMENT ON COLUMN stream_positions.entry_seq IS 'Sequence number of the entry within its millisecond';

-- Batches that were acknowledged and are not in the stream any more. One that is in the ledger was stored after all.
CREATE TABLE lost_batches (
    batch_id    uuid PRIMARY KEY,
    project_id  bigint NOT NULL,
    events      bigint NOT NULL,
    received_at timestamptz NOT NULL,
    shard       integer NOT NULL,
    found_at    timestamptz NOT NULL DEFAULT now(),
    reviewed_at timestamptz
);
COMMENT ON TABLE lost_batches IS 'Batches that were acknowledged and then disappeared from the stream; those in batches were stored after all';
COMMENT ON COLUMN lost_batches.batch_id IS 'The batch';
COMMENT ON COLUMN lost_batches.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN lost_batches.events IS 'Events in the batch';
COMMENT ON COLUMN lost_batches.received_at IS 'When the batch was acknowledged';
COMMENT ON COLUMN lost_batches.shard IS 'Shard of the stream';
COMMENT ON COLUMN lost_batches.found_at IS 'When it was found missing';
COMMENT ON COLUMN lost_batches.reviewed_at IS 'When an operator has seen it; the audit then holds without it';
CREATE INDEX lost_batches_received_at ON lost_batches (received_at);

-- Set when the server of a shard had a replica that could take over. It stays set: after a failover, the old primary
-- returns without one.
ALTER TABLE stream_epochs ADD COLUMN has_replicas boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN stream_epochs.has_replicas IS 'The Redis of this shard had replicas when it was last seen with any';

-- The store ------------------------------------------------------------------------------------------------------

-- The timeline of this database when it was last checked. A failover begins a new one. One row.
CREATE TABLE store_timeline (
    one_row    boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    timeline   bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE store_timeline IS 'Bookkeeping: the timeline of this PostgreSQL when it was last checked';
COMMENT ON COLUMN store_timeline.one_row IS 'Always true: the table has one row';
COMMENT ON COLUMN store_timeline.timeline IS 'Number of the timeline; a failover begins a new one';
COMMENT ON COLUMN store_timeline.changed_at IS 'When it was first seen';

-- Accounts -------------------------------------------------------------------------------------------------------

-- The notification says which projects an API process must read again: their numbers, separated by commas, or "all".
-- A program that does not know this reads all accounts after every notification, as before.
CREATE OR REPLACE FUNCTION millrace_accounts_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY millrace_accounts, 'all';
    RETURN NULL;
END
$$;

-- For a statement on a table with a project_id. A payload is shorter than 8,000 bytes, so 300 numbers always fit.
CREATE FUNCTION millrace_projects_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    projects bigint[] := ARRAY(SELECT DISTINCT project_id FROM changed_rows LIMIT 301);
BEGIN
    IF cardinality(projects) > 300 THEN
        NOTIFY millrace_accounts, 'all';
    ELSIF cardinality(projects) > 0 THEN
        PERFORM pg_notify('millrace_accounts', array_to_string(projects, ','));
    END IF;
    RETURN NULL;
END
$$;

-- For a row, because only a trigger for rows can name columns and tell what changed: a key that is used is no change.
CREATE FUNCTION millrace_key_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.project_id = old.project_id THEN
        PERFORM pg_notify('millrace_accounts', new.project_id::text);
    ELSE
        PERFORM pg_notify('millrace_accounts', old.project_id || ',' || new.project_id);
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER changed ON projects;
CREATE TRIGGER emptied AFTER TRUNCATE ON projects
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_accounts_changed();
CREATE TRIGGER added AFTER INSERT ON projects REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_projects_changed();
CREATE TRIGGER changed AFTER UPDATE ON projects REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_projects_changed();
-- For a project that got another number.
CREATE TRIGGER changed_from AFTER UPDATE ON projects REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_projects_changed();
CREATE TRIGGER removed AFTER DELETE ON projects REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_projects_changed();

DROP TRIGGER changed ON api_keys;
CREATE TRIGGER emptied AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_accounts_changed();
CREATE TRIGGER added AFTER INSERT ON api_keys REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_projects_changed();
CREATE TRIGGER changed
    AFTER UPDATE OF project_id, key_hash, signing_secrets, expires_at, revoked_at, scope, allowed_origins ON api_keys
    FOR EACH ROW EXECUTE FUNCTION millrace_key_changed();
CREATE TRIGGER removed AFTER DELETE ON api_keys REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_projects_changed();
