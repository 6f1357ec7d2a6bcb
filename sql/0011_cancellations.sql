-- Cancellations: an event that was sent by mistake is billed no more. Its row stays where it is, so that the event is
-- recognized when it is sent again. So nothing changes for the COPY of workers, and no partition is locked.

-- The receive time is part of the key because retention removes events: one that is sent again after that is a new one.
CREATE TABLE cancellations (
    project_id   bigint NOT NULL,
    timestamp    timestamptz NOT NULL,
    event_id     uuid NOT NULL,
    received_at  timestamptz NOT NULL,
    cancelled_at timestamptz NOT NULL DEFAULT now(),
    cancelled_by text NOT NULL,
    reason       text,
    PRIMARY KEY (project_id, timestamp, event_id, received_at)
);
COMMENT ON TABLE cancellations IS 'Events that were cancelled: one row for each, kept indefinitely. Their rows stay in events, and usage and meters count them no more';
COMMENT ON COLUMN cancellations.project_id IS 'See events';
COMMENT ON COLUMN cancellations.timestamp IS 'See events';
COMMENT ON COLUMN cancellations.event_id IS 'See events';
COMMENT ON COLUMN cancellations.received_at IS 'See events';
COMMENT ON COLUMN cancellations.cancelled_at IS 'When the event was cancelled';
COMMENT ON COLUMN cancellations.cancelled_by IS 'Who cancelled it: the number of the key, or the user and the host of the command line';
COMMENT ON COLUMN cancellations.reason IS 'Why, in the words of who cancelled it; NULL when nothing was said';

-- A part of the column events, as redriven is: the laws that compare events with the ledger and the tables stay as they
-- are, for programs of earlier releases, too.
ALTER TABLE usage_hourly ADD COLUMN cancelled bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN usage_hourly.cancelled IS 'The part of the column events that was cancelled; not billed';

CREATE OR REPLACE VIEW usage_readable AS
SELECT u.project_id, p.name AS project, u.hour, u.events, u.bytes, u.duplicates, u.dead, u.redriven, u.conflicts, u.cancelled
  FROM usage_hourly u LEFT JOIN projects p ON p.project_id = u.project_id;
COMMENT ON COLUMN usage_readable.cancelled IS 'The part of the column events that was cancelled. Billed is events - cancelled';

-- Replaced, and not dropped, it keeps its comments and the rights of those who read it. A query that does not read
-- cancelled_at does not join the table: its key makes that unnecessary.
CREATE OR REPLACE VIEW events_readable AS
SELECT e.project_id,
       p.name AS project,
       e.timestamp,
       e.received_at,
       e.event_id::text AS event_id,
       e.name, e.subject, e.client_id, e.properties::jsonb AS properties, e.context::jsonb AS context,
       (extract(epoch FROM e.timestamp) * 1000000)::bigint AS timestamp_us,
       c.cancelled_at
  FROM events e LEFT JOIN projects p ON p.project_id = e.project_id
       LEFT JOIN cancellations c ON c.project_id = e.project_id AND c.timestamp = e.timestamp AND c.event_id = e.event_id
                                AND c.received_at = e.received_at;
COMMENT ON COLUMN events_readable.cancelled_at IS 'When the event was cancelled; NULL for an event that is billed';

-- A program of an earlier release would count cancelled events when retention removes them, and in a backfill. Once there
-- are some, it must not: it fails, and a program that knows cancellations does it.
CREATE FUNCTION millrace_refuse_without_cancellations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM cancellations) THEN
        RAISE EXCEPTION 'this program does not know cancelled events, and this database has some'
              USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Stop it, and start a newer release.';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER knows_cancellations BEFORE INSERT OR UPDATE ON meter_retired FOR EACH STATEMENT
    WHEN (current_setting('millrace.knows_cancellations', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION millrace_refuse_without_cancellations();
CREATE TRIGGER knows_cancellations BEFORE UPDATE OF counted_until ON meters FOR EACH STATEMENT
    WHEN (current_setting('millrace.knows_cancellations', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION millrace_refuse_without_cancellations();
