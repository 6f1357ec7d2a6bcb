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
