-- The columns for JSON are jsonb or json, as chosen when the database is installed, and events_readable offers jsonb on
-- both. No statement reads or rewrites rows.

-- A column that a view reads cannot change its type, so the view reads nothing for a moment. Replaced, and not dropped,
-- it keeps its comments and the rights of those who read it.
CREATE OR REPLACE VIEW events_readable AS
SELECT NULL::bigint AS project_id,
       NULL::text AS project,
       NULL::timestamptz AS timestamp,
       NULL::timestamptz AS received_at,
       NULL::text AS event_id,
       NULL::text AS name, NULL::text AS subject, NULL::text AS client_id,
       NULL::jsonb AS properties, NULL::jsonb AS context,
       NULL::bigint AS timestamp_us;

-- `millrace migrate` sets this for a new database only: the table is empty.
DO $$
BEGIN
    IF current_setting('millrace.json_columns', true) = 'json' THEN
        ALTER TABLE events ALTER COLUMN properties TYPE json, ALTER COLUMN context TYPE json;
    END IF;
END
$$;

CREATE OR REPLACE VIEW events_readable AS
SELECT e.project_id,
       p.name AS project,
       e.timestamp,
       e.received_at,
       e.event_id::text AS event_id,
       e.name, e.subject, e.client_id, e.properties::jsonb AS properties, e.context::jsonb AS context,
       (extract(epoch FROM e.timestamp) * 1000000)::bigint AS timestamp_us
  FROM events e LEFT JOIN projects p ON p.project_id = e.project_id;
