-- Driving dead letters again: a letter whose events are stored after all is kept, marked, and counts nothing any more.

-- One row for each time an operator did it.
CREATE TABLE redrives (
    redrive_id uuid PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    os_user    text NOT NULL,
    host       text NOT NULL,
    filter     text NOT NULL,
    letters    bigint NOT NULL DEFAULT 0,
    stored     bigint NOT NULL DEFAULT 0,
    duplicate  bigint NOT NULL DEFAULT 0,
    refused    bigint NOT NULL DEFAULT 0
);
COMMENT ON COLUMN redrives.filter IS 'which letters were asked for, as the command was told';
COMMENT ON COLUMN redrives.letters IS 'letters taken up; stored, duplicate and refused count their events';
CREATE INDEX redrives_started_at ON redrives (started_at);

ALTER TABLE dead_letters
    ADD COLUMN attempted_at timestamptz,
    ADD COLUMN redriven_at  timestamptz,
    ADD COLUMN redrive_id   uuid REFERENCES redrives;
COMMENT ON COLUMN dead_letters.attempted_at IS 'when a redrive was last refused';
COMMENT ON COLUMN dead_letters.redriven_at IS 'NULL: still dead';
CREATE INDEX dead_letters_waiting ON dead_letters (dead_letter_id) WHERE redriven_at IS NULL;

-- Events that are stored but were refunded when they died. A redrive charges nobody: the failure was ours.
ALTER TABLE usage_hourly ADD COLUMN redriven bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN usage_hourly.redriven IS 'of the events, those stored by a redrive; they use up no quota';
-- The same of one batch, so that a worker that settles it late still refunds what had died.
ALTER TABLE batches ADD COLUMN redriven bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN batches.redriven IS 'of stored, those stored by a redrive';
