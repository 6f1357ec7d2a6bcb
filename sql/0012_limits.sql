-- Limits per customer: how much a meter may count for one subject in an hour, a day or a month of the stream's clock.

CREATE TABLE customer_limits (
    project_id bigint NOT NULL REFERENCES projects,
    meter_id   bigint NOT NULL REFERENCES meters,
    period     text NOT NULL CHECK (period IN ('hour', 'day', 'month')),
    subject    text NOT NULL,
    amount     numeric NOT NULL CHECK (amount >= 0),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (meter_id, period, subject)
);
CREATE INDEX customer_limits_project ON customer_limits (project_id);
COMMENT ON TABLE customer_limits IS 'How much customers may use of meters';
COMMENT ON COLUMN customer_limits.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN customer_limits.meter_id IS 'Number of the meter, see meters';
COMMENT ON COLUMN customer_limits.period IS 'hour, day or month, in UTC by the time of receipt';
COMMENT ON COLUMN customer_limits.subject IS 'The customer; empty for every customer that has no limit of its own';
COMMENT ON COLUMN customer_limits.amount IS 'How much is admitted in each period';
COMMENT ON COLUMN customer_limits.changed_at IS 'When it was set';

CREATE TABLE customer_limit_versions (
    project_id bigint PRIMARY KEY REFERENCES projects,
    version    bigint NOT NULL
);
COMMENT ON TABLE customer_limit_versions IS 'Bookkeeping: the version of the limits of each project, by which API processes see that they changed';
COMMENT ON COLUMN customer_limit_versions.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN customer_limit_versions.version IS 'Grows with each change of a limit of the project';

-- A new version, and the notification that makes API processes read it.
CREATE FUNCTION millrace_limits_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    project bigint;
BEGIN
    FOR project IN SELECT DISTINCT project_id FROM changed_rows ORDER BY project_id LOOP
        INSERT INTO customer_limit_versions AS v (project_id, version) VALUES (project, 1)
            ON CONFLICT (project_id) DO UPDATE SET version = v.version + 1;
        PERFORM pg_notify('millrace_accounts', project::text);
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER added AFTER INSERT ON customer_limits REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_limits_changed();
CREATE TRIGGER changed AFTER UPDATE ON customer_limits REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_limits_changed();
CREATE TRIGGER removed AFTER DELETE ON customer_limits REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_limits_changed();

-- A meter takes its limits with it.
CREATE FUNCTION millrace_limits_of_meter_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM customer_limits WHERE meter_id = new.meter_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER limits_removed AFTER UPDATE OF deleted_at ON meters FOR EACH ROW
    WHEN (old.deleted_at IS NULL AND new.deleted_at IS NOT NULL)
    EXECUTE FUNCTION millrace_limits_of_meter_removed();

-- What the stored events have used, by the time of receipt. Written in the transactions of events that were charged; a
-- stream that lost its data gets its counters from here.
CREATE TABLE limit_usage (
    project_id    bigint NOT NULL,
    meter_id      bigint NOT NULL,
    period        text NOT NULL,
    subject       text NOT NULL,
    window_number bigint NOT NULL,
    ends_at       timestamptz NOT NULL,
    used          numeric NOT NULL,
    PRIMARY KEY (meter_id, period, subject, window_number)
) WITH (fillfactor = 80);
CREATE INDEX limit_usage_ends_at ON limit_usage (ends_at);
COMMENT ON TABLE limit_usage IS 'What customers have used of limits, by stored events that were charged';
COMMENT ON COLUMN limit_usage.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN limit_usage.meter_id IS 'Number of the meter, see meters';
COMMENT ON COLUMN limit_usage.period IS 'hour, day or month';
COMMENT ON COLUMN limit_usage.subject IS 'The customer';
COMMENT ON COLUMN limit_usage.window_number IS 'Hours or days since 1970, or year * 100 + month, in UTC by the time of receipt';
COMMENT ON COLUMN limit_usage.ends_at IS 'When this hour, day or month ends';
COMMENT ON COLUMN limit_usage.used IS 'How much was used';

CREATE TABLE limit_refunds (
    batch_id    uuid NOT NULL,
    received_at timestamptz NOT NULL,
    entry_seq   bigint NOT NULL,
    shard       int NOT NULL,
    refunds     bytea NOT NULL,
    PRIMARY KEY (batch_id, received_at, entry_seq, shard)
);
COMMENT ON TABLE limit_refunds IS 'Bookkeeping: what written batches give back to limits when they are settled; kept as long as the ledger';
COMMENT ON COLUMN limit_refunds.batch_id IS 'Id of the batch';
COMMENT ON COLUMN limit_refunds.received_at IS 'When its entry was received';
COMMENT ON COLUMN limit_refunds.entry_seq IS 'Second part of the entry''s id';
COMMENT ON COLUMN limit_refunds.shard IS 'Shard of the entry';
COMMENT ON COLUMN limit_refunds.refunds IS 'The amounts, by counter';
