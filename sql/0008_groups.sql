-- A row of the ledger is one batch, or the batches of one stream entry whose ids name one group. An id of such a batch
-- is a UUID of version 6; its last byte is the place of the batch in the group, from 1, and that of the group's id is 0.
-- No statement reads or rewrites rows.

ALTER TABLE batches
    ALTER COLUMN project_id DROP NOT NULL,
    ADD COLUMN group_places smallint[],
    ADD COLUMN group_projects bigint[],
    ADD COLUMN group_accepted bigint[],
    ADD COLUMN group_duplicate bigint[],
    ADD COLUMN group_dead bigint[],
    ADD COLUMN group_conflict bigint[],
    ADD COLUMN group_redriven bigint[];

COMMENT ON TABLE batches IS 'Bookkeeping, the ledger: one row for each batch that was written, or for the batches of a stream entry with one group, in the transaction that stored their events; query the view ledger, which has one row for each batch. Partitioned by day of received_at, UTC; kept for LEDGER_DAYS';
COMMENT ON COLUMN batches.batch_id IS 'The batch_id of the answer to the client; a UUID derived from it when the same batch was accepted again; in a row for a group, the id of the group';
COMMENT ON COLUMN batches.project_id IS 'Number of the project, see projects; NULL in a row for a group, whose batches can have several';
COMMENT ON COLUMN batches.accepted IS 'Events in the batch or the batches: stored + duplicate + dead';
COMMENT ON COLUMN batches.stored IS 'Events of the batch or the batches that are in events';
COMMENT ON COLUMN batches.duplicate IS 'Events of the batch or the batches that were stored already';
COMMENT ON COLUMN batches.dead IS 'Events of the batch or the batches that are in dead_letters';
COMMENT ON COLUMN batches.group_places IS 'In a row for a group: the place of each batch in the group, from 1; the last byte of its id. NULL in a row for one batch, as are all columns for groups';
COMMENT ON COLUMN batches.group_projects IS 'In a row for a group: the number of the project of each batch';
COMMENT ON COLUMN batches.group_accepted IS 'In a row for a group: the events in each batch';
COMMENT ON COLUMN batches.group_duplicate IS 'In a row for a group: the events of each batch that were stored already; NULL when all events of the group were stored';
COMMENT ON COLUMN batches.group_dead IS 'In a row for a group: the events of each batch that are in dead_letters; NULL when all events of the group were stored';
COMMENT ON COLUMN batches.group_conflict IS 'In a row for a group: the part of group_duplicate with another payload; NULL when all events of the group were stored';
COMMENT ON COLUMN batches.group_redriven IS 'In a row for a group: the events of each batch that redrives of dead letters stored; NULL when all events of the group were stored';

CREATE FUNCTION millrace_batch_group(batch_id uuid) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE substr(batch_id::text, 15, 1) WHEN '6' THEN (left(batch_id::text, 34) || '00')::uuid ELSE batch_id END
$$;
COMMENT ON FUNCTION millrace_batch_group IS 'The group that the id of a batch names; the id itself when it names none';

CREATE VIEW ledger AS
SELECT b.batch_id, b.project_id, b.received_at, b.entry_seq, b.shard,
       b.accepted, b.stored, b.duplicate, b.dead, b.conflict, b.redriven, b.batch_id AS row_id
  FROM batches b WHERE b.group_places IS NULL
UNION ALL
SELECT overlay(b.batch_id::text PLACING lpad(to_hex(g.place::int), 2, '0') FROM 35)::uuid, g.project_id,
       b.received_at, b.entry_seq, b.shard, g.accepted, g.accepted - coalesce(g.duplicate, 0) - coalesce(g.dead, 0),
       coalesce(g.duplicate, 0), coalesce(g.dead, 0), coalesce(g.conflict, 0), coalesce(g.redriven, 0), b.batch_id
  FROM batches b,
       unnest(b.group_places, b.group_projects, b.group_accepted, b.group_duplicate, b.group_dead, b.group_conflict,
              b.group_redriven) g (place, project_id, accepted, duplicate, dead, conflict, redriven)
 WHERE b.group_places IS NOT NULL;
COMMENT ON VIEW ledger IS 'The ledger: one row for each batch. Find one by WHERE row_id IN (id, millrace_batch_group(id)) AND batch_id = id';
COMMENT ON COLUMN ledger.batch_id IS 'See batches.batch_id; also of a batch in a group, its own id';
COMMENT ON COLUMN ledger.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN ledger.received_at IS 'See batches.received_at';
COMMENT ON COLUMN ledger.entry_seq IS 'See batches.entry_seq';
COMMENT ON COLUMN ledger.shard IS 'See batches.shard';
COMMENT ON COLUMN ledger.accepted IS 'Events in the batch: stored + duplicate + dead';
COMMENT ON COLUMN ledger.stored IS 'Events of the batch that are in events';
COMMENT ON COLUMN ledger.duplicate IS 'Events of the batch that were stored already';
COMMENT ON COLUMN ledger.dead IS 'Events of the batch that are in dead_letters';
COMMENT ON COLUMN ledger.conflict IS 'See batches.conflict';
COMMENT ON COLUMN ledger.redriven IS 'See batches.redriven';
COMMENT ON COLUMN ledger.row_id IS 'batch_id of the row in batches, where the index finds it';
