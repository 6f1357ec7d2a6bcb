-- Thresholds: a notification is written in the transaction in which a quota, a limit of a customer or a figure of a meter
-- reaches a value, as on PostgreSQL. Decimal numbers are texts, times are microseconds since 1970.

CREATE TABLE thresholds (
    threshold_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id    INTEGER NOT NULL REFERENCES projects,
    name          TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    kind          TEXT NOT NULL CHECK (kind IN ('quota', 'limit', 'meter')),
    percent       INTEGER CHECK (percent BETWEEN 1 AND 100),
    meter_id      INTEGER,
    -- NULL for each subject.
    subject       TEXT CHECK (subject <> ''),
    period        TEXT NOT NULL CHECK (period IN ('hour', 'day', 'month')),
    value         TEXT,
    url           TEXT NOT NULL,
    created_at    INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    CHECK ((kind = 'meter') = (percent IS NULL)),
    CHECK ((kind = 'meter') = (value IS NOT NULL)),
    CHECK ((kind = 'quota') = (meter_id IS NULL))
) STRICT;
CREATE UNIQUE INDEX thresholds_name ON thresholds (project_id, name);

-- Writers know the thresholds by the version of the definitions of meters.
CREATE TRIGGER threshold_added AFTER INSERT ON thresholds BEGIN UPDATE meters_version SET version = version + 1; END;
CREATE TRIGGER threshold_changed AFTER UPDATE ON thresholds BEGIN UPDATE meters_version SET version = version + 1; END;
CREATE TRIGGER threshold_removed AFTER DELETE ON thresholds BEGIN UPDATE meters_version SET version = version + 1; END;

-- What a subject has used, so that not every addition reads all figures of the period. Compared with them before a
-- notification is written, so rows can be deleted at any time.
CREATE TABLE threshold_values (
    threshold_id INTEGER NOT NULL,
    subject      TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    value        TEXT NOT NULL,
    PRIMARY KEY (threshold_id, subject, period_start)
) STRICT, WITHOUT ROWID;
CREATE INDEX threshold_values_period ON threshold_values (period_start);

-- The secrets by which notifications are signed, as they are.
CREATE TABLE webhook_secrets (
    project_id     INTEGER PRIMARY KEY REFERENCES projects,
    secret         BLOB NOT NULL,
    previous       BLOB,
    previous_until INTEGER
) STRICT;

CREATE TABLE notifications (
    notification_id INTEGER PRIMARY KEY AUTOINCREMENT,
    threshold_id    INTEGER NOT NULL,
    project_id      INTEGER NOT NULL,
    name            TEXT NOT NULL,
    kind            TEXT NOT NULL,
    percent         INTEGER,
    meter           TEXT,
    subject         TEXT NOT NULL, -- empty for a quota
    period          TEXT NOT NULL,
    period_start    INTEGER NOT NULL,
    period_end      INTEGER NOT NULL,
    threshold       TEXT NOT NULL,
    value           TEXT NOT NULL,
    created_at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    webhook_id      BLOB NOT NULL,
    state           TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    claim           BLOB,
    attempted_at    INTEGER,
    status          INTEGER,
    error           TEXT,
    UNIQUE (threshold_id, subject, period_start)
) STRICT;
CREATE INDEX notifications_due ON notifications (next_attempt_at) WHERE state = 'pending';
CREATE INDEX notifications_project ON notifications (project_id, notification_id);
CREATE INDEX notifications_period ON notifications (period_end);
