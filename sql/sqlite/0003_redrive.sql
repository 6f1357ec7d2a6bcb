-- Driving dead letters again: a letter whose events are stored after all is kept, marked, and counts nothing any more.

-- One row for each time an operator did it.
CREATE TABLE redrives (
    redrive_id BLOB PRIMARY KEY,
    started_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    os_user    TEXT NOT NULL,
    host       TEXT NOT NULL,
    filter     TEXT NOT NULL,              -- which letters were asked for, as the command was told
    letters    INTEGER NOT NULL DEFAULT 0, -- letters taken up; the three below count their events
    stored     INTEGER NOT NULL DEFAULT 0,
    duplicate  INTEGER NOT NULL DEFAULT 0,
    refused    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX redrives_started_at ON redrives (started_at);

ALTER TABLE dead_letters ADD COLUMN attempted_at INTEGER; -- when a redrive was last refused
ALTER TABLE dead_letters ADD COLUMN redriven_at INTEGER;  -- NULL: still dead
ALTER TABLE dead_letters ADD COLUMN redrive_id BLOB REFERENCES redrives;
CREATE INDEX dead_letters_waiting ON dead_letters (dead_letter_id) WHERE redriven_at IS NULL;

-- Events that are stored but were refunded when they died. A redrive charges nobody: the failure was ours.
ALTER TABLE usage_hourly ADD COLUMN redriven INTEGER NOT NULL DEFAULT 0; -- of the events
-- The same of one batch, so that a worker that settles it late still refunds what had died.
ALTER TABLE batches ADD COLUMN redriven INTEGER NOT NULL DEFAULT 0; -- of stored
