-- usage_readable shows events stored by a redrive, as the view of the same name in PostgreSQL does.
DROP VIEW usage_readable;
CREATE VIEW usage_readable AS
SELECT u.project_id, p.name AS project, strftime('%Y-%m-%dT%H:00Z', u.hour / 1000000, 'unixepoch') AS hour,
       u.events, u.bytes, u.duplicates, u.dead, u.redriven
  FROM usage_hourly u LEFT JOIN projects p ON p.project_id = u.project_id;
