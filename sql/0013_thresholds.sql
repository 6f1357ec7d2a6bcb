-- Thresholds: a notification is written in the transaction in which a quota, a limit of a customer or a figure of a meter
-- reaches a value, and a worker delivers it.

CREATE TABLE thresholds (
    threshold_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id    bigint NOT NULL REFERENCES projects,
    name          text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    kind          text NOT NULL CHECK (kind IN ('quota', 'limit', 'meter')),
    percent       integer CHECK (percent BETWEEN 1 AND 100),
    meter_id      bigint,
    subject       text CHECK (subject <> ''),
    period        text NOT NULL CHECK (period IN ('hour', 'day', 'month')),
    value         numeric CHECK (value > 0),
    url           text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'meter') = (percent IS NULL)),
    CHECK ((kind = 'meter') = (value IS NOT NULL)),
    CHECK ((kind = 'quota') = (meter_id IS NULL))
);
CREATE UNIQUE INDEX thresholds_name ON thresholds (project_id, name);
CREATE INDEX thresholds_meter ON thresholds (meter_id) WHERE meter_id IS NOT NULL;
COMMENT ON TABLE thresholds IS 'Values of quotas, limits and meters that cause a notification when they are reached';
COMMENT ON COLUMN thresholds.threshold_id IS 'Number of the threshold';
COMMENT ON COLUMN thresholds.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN thresholds.name IS 'Name of the threshold, unique in its project';
COMMENT ON COLUMN thresholds.kind IS 'quota, limit or meter';
COMMENT ON COLUMN thresholds.percent IS 'Of the plan''s events per month for quota, and of the customer''s limit for limit';
COMMENT ON COLUMN thresholds.meter_id IS 'For meter and limit: number of the meter, see meters';
COMMENT ON COLUMN thresholds.subject IS 'For meter and limit: the only subject that it is about; NULL for each subject';
COMMENT ON COLUMN thresholds.period IS 'hour, day or month, in UTC; a quota has months';
COMMENT ON COLUMN thresholds.value IS 'For meter: the figure of one subject in one period that causes the notification';
COMMENT ON COLUMN thresholds.url IS 'Where notifications are sent';
COMMENT ON COLUMN thresholds.created_at IS 'When it was created; periods that ended before are not looked at';

-- Writers know which projects have thresholds by the version of the definitions of meters.
CREATE TRIGGER changed BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON thresholds
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_meters_changed();

-- What a subject has used, so that not every addition reads all figures of the period. Never less than the figures, and
-- compared with them before a notification is written, so rows can be deleted at any time.
CREATE TABLE threshold_values (
    threshold_id bigint NOT NULL,
    subject      text NOT NULL,
    period_start timestamptz NOT NULL,
    value        numeric NOT NULL,
    is_whole     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (threshold_id, subject, period_start)
) WITH (fillfactor = 80);
CREATE INDEX threshold_values_period ON threshold_values (period_start);
COMMENT ON TABLE threshold_values IS 'Bookkeeping: how near subjects are to thresholds of meters';
COMMENT ON COLUMN threshold_values.threshold_id IS 'Number of the threshold, see thresholds';
COMMENT ON COLUMN threshold_values.subject IS 'Subject of the events';
COMMENT ON COLUMN threshold_values.period_start IS 'Start of the period';
COMMENT ON COLUMN threshold_values.value IS 'At least the figure of the subject in the period, without what still waits in meter_additions';
COMMENT ON COLUMN threshold_values.is_whole IS 'Whether the value has the events that were counted before the row was made';

CREATE TABLE webhook_secrets (
    project_id     bigint PRIMARY KEY REFERENCES projects,
    secret         bytea NOT NULL,
    previous       bytea,
    previous_until timestamptz
);
COMMENT ON TABLE webhook_secrets IS 'Secrets by which notifications are signed, as they are';
COMMENT ON COLUMN webhook_secrets.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN webhook_secrets.secret IS 'The secret';
COMMENT ON COLUMN webhook_secrets.previous IS 'The secret before it was rotated, which signs as well until previous_until';
COMMENT ON COLUMN webhook_secrets.previous_until IS 'When the previous secret ends';

CREATE TABLE notifications (
    notification_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    threshold_id    bigint NOT NULL,
    project_id      bigint NOT NULL,
    name            text NOT NULL,
    kind            text NOT NULL,
    percent         integer,
    meter           text,
    subject         text NOT NULL,
    period          text NOT NULL,
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    threshold       numeric NOT NULL,
    value           numeric NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    webhook_id      uuid NOT NULL DEFAULT gen_random_uuid(),
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    claim           uuid,
    attempted_at    timestamptz,
    status          integer,
    error           text,
    UNIQUE (threshold_id, subject, period_start)
) WITH (fillfactor = 80);
CREATE INDEX notifications_due ON notifications (next_attempt_at) WHERE state = 'pending';
CREATE INDEX notifications_project ON notifications (project_id, notification_id);
CREATE INDEX notifications_period ON notifications (period_end);
COMMENT ON TABLE notifications IS 'Thresholds that were reached, once for each threshold, subject and period, and how they were delivered';
COMMENT ON COLUMN notifications.notification_id IS 'Number of the notification';
COMMENT ON COLUMN notifications.threshold_id IS 'Number of the threshold, see thresholds';
COMMENT ON COLUMN notifications.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN notifications.name IS 'Name of the threshold';
COMMENT ON COLUMN notifications.kind IS 'quota, limit or meter';
COMMENT ON COLUMN notifications.percent IS 'Of the plan''s events per month for quota, and of the customer''s limit for limit';
COMMENT ON COLUMN notifications.meter IS 'For meter and limit: slug of the meter';
COMMENT ON COLUMN notifications.subject IS 'For meter and limit: the subject; empty for a quota';
COMMENT ON COLUMN notifications.period IS 'hour, day or month';
COMMENT ON COLUMN notifications.period_start IS 'Start of the period';
COMMENT ON COLUMN notifications.period_end IS 'End of the period';
COMMENT ON COLUMN notifications.threshold IS 'The value that was reached, for a quota in events';
COMMENT ON COLUMN notifications.value IS 'The figure in the transaction that reached it';
COMMENT ON COLUMN notifications.created_at IS 'When that transaction began';
COMMENT ON COLUMN notifications.webhook_id IS 'Id of the message, the same in each attempt';
COMMENT ON COLUMN notifications.state IS 'pending, delivered, or dead after the last attempt';
COMMENT ON COLUMN notifications.attempts IS 'Attempts to deliver it since it was written or retried by an operator';
COMMENT ON COLUMN notifications.next_attempt_at IS 'Earliest time of the next attempt; while one is under way, when another worker may make one';
COMMENT ON COLUMN notifications.claim IS 'The attempt that is under way';
COMMENT ON COLUMN notifications.attempted_at IS 'When the last attempt began';
COMMENT ON COLUMN notifications.status IS 'Status of the last answer';
COMMENT ON COLUMN notifications.error IS 'Why the last attempt failed';
