-- Creates the database role of the dashboards. It can read the data that the dashboards show, but no keys, no
-- signing secrets and no events. Run it after `millrace migrate`, as the owner of the tables. Running it
-- again is safe:
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -v password="$DASHBOARDS_PASSWORD" -f grafana/reader.sql

SELECT 'CREATE ROLE millrace_dashboards'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millrace_dashboards') \gexec

ALTER ROLE millrace_dashboards LOGIN PASSWORD :'password' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION
    CONNECTION LIMIT 10;
-- Queries of the dashboards must not delay Millrace: long queries and long waits for locks are canceled.
ALTER ROLE millrace_dashboards SET default_transaction_read_only = on;
ALTER ROLE millrace_dashboards SET statement_timeout = '15s';
ALTER ROLE millrace_dashboards SET lock_timeout = '1s';
ALTER ROLE millrace_dashboards SET idle_in_transaction_session_timeout = '30s';

GRANT USAGE ON SCHEMA public TO millrace_dashboards;
GRANT SELECT ON plans, projects, usage_hourly, batches, ledger, redrives TO millrace_dashboards;
GRANT SELECT ON meters, meter_usage TO millrace_dashboards;
-- Numbers, and no values or samples of events.
GRANT SELECT (meter_id, subject, bucket, groups, events) ON meter_uniques TO millrace_dashboards;
GRANT SELECT (meter_id, fault, events, last_at) ON meter_faults TO millrace_dashboards;
-- All columns of a dead letter except the event.
GRANT SELECT (dead_letter_id, project_id, batch_id, received_at, event_index, event_count, sqlstate, reason, created_at,
              attempted_at, redriven_at, redrive_id)
    ON dead_letters TO millrace_dashboards;
