-- Cancellations, as on PostgreSQL: the row of a cancelled event stays where it is, and usage and meters count it no more.

CREATE TABLE cancellations (
    project_id   INTEGER NOT NULL,
    timestamp    INTEGER NOT NULL,
    event_id     BLOB NOT NULL,
    received_at  INTEGER NOT NULL,
    cancelled_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    cancelled_by TEXT NOT NULL,
    reason       TEXT,
    PRIMARY KEY (project_id, timestamp, event_id, received_at)
) STRICT, WITHOUT ROWID;

ALTER TABLE usage_hourly ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0; -- of the events

DROP VIEW usage_readable;
CREATE VIEW usage_readable AS
SELECT u.project_id, p.name AS project, strftime('%Y-%m-%dT%H:00Z', u.hour / 1000000, 'unixepoch') AS hour,
       u.events, u.bytes, u.duplicates, u.dead, u.redriven, u.conflicts, u.cancelled
  FROM usage_hourly u LEFT JOIN projects p ON p.project_id = u.project_id;

DROP VIEW events_readable;
CREATE VIEW events_readable AS
SELECT e.project_id,
       p.name AS project,
       strftime('%Y-%m-%dT%H:%M:%S', (e.timestamp - (e.timestamp % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
           || printf('.%06dZ', (e.timestamp % 1000000 + 1000000) % 1000000) AS timestamp,
       strftime('%Y-%m-%dT%H:%M:%S', e.received_at / 1000000, 'unixepoch')
           || printf('.%06dZ', e.received_at % 1000000) AS received_at,
       lower(substr(hex(e.event_id), 1, 8) || '-' || substr(hex(e.event_id), 9, 4) || '-' || substr(hex(e.event_id), 13, 4)
           || '-' || substr(hex(e.event_id), 17, 4) || '-' || substr(hex(e.event_id), 21)) AS event_id,
       e.name, e.subject, e.client_id, e.properties, e.context,
       e.timestamp AS timestamp_us,
       strftime('%Y-%m-%dT%H:%M:%S', c.cancelled_at / 1000000, 'unixepoch')
           || printf('.%06dZ', c.cancelled_at % 1000000) AS cancelled_at
  FROM events e LEFT JOIN projects p ON p.project_id = e.project_id
       LEFT JOIN cancellations c ON c.project_id = e.project_id AND c.timestamp = e.timestamp AND c.event_id = e.event_id
                                AND c.received_at = e.received_at;
