-- Limits per customer, as on PostgreSQL. An amount is whole units and billionths of one: SQLite has no decimal numbers.

CREATE TABLE customer_limits (
    project_id INTEGER NOT NULL REFERENCES projects,
    meter_id   INTEGER NOT NULL REFERENCES meters,
    period     TEXT NOT NULL CHECK (period IN ('hour', 'day', 'month')),
    -- Empty for every customer that has no limit of its own.
    subject    TEXT NOT NULL,
    units      INTEGER NOT NULL CHECK (units >= 0),
    billionths INTEGER NOT NULL CHECK (billionths BETWEEN 0 AND 999999999),
    changed_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    PRIMARY KEY (meter_id, period, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX customer_limits_project ON customer_limits (project_id);

CREATE TABLE customer_limit_versions (
    project_id INTEGER PRIMARY KEY REFERENCES projects,
    version    INTEGER NOT NULL
) STRICT;

CREATE TRIGGER limit_added AFTER INSERT ON customer_limits BEGIN
    INSERT INTO customer_limit_versions VALUES (new.project_id, 1)
        ON CONFLICT (project_id) DO UPDATE SET version = version + 1;
    UPDATE accounts_version SET version = version + 1;
END;
CREATE TRIGGER limit_changed AFTER UPDATE ON customer_limits BEGIN
    UPDATE customer_limit_versions SET version = version + 1 WHERE project_id = new.project_id;
    UPDATE accounts_version SET version = version + 1;
END;
CREATE TRIGGER limit_removed AFTER DELETE ON customer_limits BEGIN
    UPDATE customer_limit_versions SET version = version + 1 WHERE project_id = old.project_id;
    UPDATE accounts_version SET version = version + 1;
END;
CREATE TRIGGER limits_of_meter_removed AFTER UPDATE OF deleted_at ON meters
    WHEN old.deleted_at IS NULL AND new.deleted_at IS NOT NULL
BEGIN
    DELETE FROM customer_limits WHERE meter_id = new.meter_id;
END;

CREATE TABLE limit_usage (
    project_id    INTEGER NOT NULL,
    meter_id      INTEGER NOT NULL,
    period        TEXT NOT NULL,
    subject       TEXT NOT NULL,
    -- Hours or days since 1970, or year * 100 + month, in UTC by the time of receipt.
    window_number INTEGER NOT NULL,
    ends_at       INTEGER NOT NULL,
    units         INTEGER NOT NULL,
    billionths    INTEGER NOT NULL,
    PRIMARY KEY (meter_id, period, subject, window_number)
) STRICT, WITHOUT ROWID;
CREATE INDEX limit_usage_ends_at ON limit_usage (ends_at);

CREATE TABLE limit_refunds (
    batch_id    BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    entry_seq   INTEGER NOT NULL,
    shard       INTEGER NOT NULL,
    refunds     BLOB NOT NULL,
    PRIMARY KEY (batch_id, received_at, entry_seq, shard)
) STRICT, WITHOUT ROWID;
