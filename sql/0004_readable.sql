-- Views for people, and a comment on every table and column: \d+ in psql explains the schema.
-- Comments take no lock that a COPY waits for, and creating a view reads no rows, so this is quick on tables of any size.

-- Views for people -------------------------------------------------------------------------------------------------

-- A view runs with the rights of its owner: a role that may read only the views reads no keys and no secrets.
CREATE VIEW events_readable AS
SELECT e.project_id,
       p.name AS project,
       e.timestamp,
       e.received_at,
       e.event_id::text AS event_id,
       e.name, e.subject, e.client_id, e.properties, e.context,
       (extract(epoch FROM e.timestamp) * 1000000)::bigint AS timestamp_us
  FROM events e LEFT JOIN projects p ON p.project_id = e.project_id;

COMMENT ON VIEW events_readable IS 'For people: events with the project''s name and ids as text. Bound every query by timestamp, and by project_id where possible. SQLite has the same view';
COMMENT ON COLUMN events_readable.project_id IS 'Number of the project';
COMMENT ON COLUMN events_readable.project IS 'Name of the project';
COMMENT ON COLUMN events_readable.timestamp IS 'When the event happened; filter by this column, it selects the partitions';
COMMENT ON COLUMN events_readable.received_at IS 'When the event was accepted, on the stream''s clock';
COMMENT ON COLUMN events_readable.event_id IS 'The event''s UUID as text; for comparison with client_id, not for filters: no index serves the text';
COMMENT ON COLUMN events_readable.name IS 'Name of the event, such as order_completed';
COMMENT ON COLUMN events_readable.subject IS 'The person or thing that the event is about, such as a user id; NULL when the client sent none';
COMMENT ON COLUMN events_readable.client_id IS 'The id as the client sent it, when it is not a UUID; otherwise NULL';
COMMENT ON COLUMN events_readable.properties IS 'JSON object of the event''s own properties; NULL when the client sent none';
COMMENT ON COLUMN events_readable.context IS 'JSON object of the context, such as device, library and page; NULL when the client sent none';
COMMENT ON COLUMN events_readable.timestamp_us IS 'timestamp in microseconds since 1970; for display and comparison, not for filters: it selects no partitions';

CREATE VIEW usage_readable AS
SELECT u.project_id, p.name AS project, u.hour, u.events, u.bytes, u.duplicates, u.dead, u.redriven
  FROM usage_hourly u LEFT JOIN projects p ON p.project_id = u.project_id;

COMMENT ON VIEW usage_readable IS 'For people: usage_hourly with the project''s name. Customers are billed from it. SQLite has the same view';
COMMENT ON COLUMN usage_readable.project_id IS 'Number of the project';
COMMENT ON COLUMN usage_readable.project IS 'Name of the project';
COMMENT ON COLUMN usage_readable.hour IS 'First moment of the hour of receipt, UTC';
COMMENT ON COLUMN usage_readable.events IS 'Events stored; count of events';
COMMENT ON COLUMN usage_readable.bytes IS 'Size of the rows stored, as sent to COPY; bytes';
COMMENT ON COLUMN usage_readable.duplicates IS 'Events accepted and found stored already; not billed, not charged to the quota';
COMMENT ON COLUMN usage_readable.dead IS 'Events accepted and now in dead_letters; not billed, not charged to the quota';
COMMENT ON COLUMN usage_readable.redriven IS 'The part of the column events that redrives of dead letters stored; not charged to the quota';

-- Tables for people ------------------------------------------------------------------------------------------------

COMMENT ON TABLE events IS 'One row for each event. Partitioned by day of timestamp, UTC (events_20261121); identity is (project_id, timestamp, event_id)';
COMMENT ON COLUMN events.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN events.timestamp IS 'When the event happened, as the client sent it; otherwise the time in its UUIDv7 id, or else the time of receipt';
COMMENT ON COLUMN events.event_id IS 'The client''s id when it is a UUID; otherwise a UUIDv8 derived from the client''s id, or from the batch and the index of the event in it';
COMMENT ON COLUMN events.received_at IS 'When the event was accepted, on the stream''s clock; milliseconds';
COMMENT ON COLUMN events.name IS 'Name of the event, 1 to 200 characters; calls of Segment''s SDKs other than track are named $identify, $page and so on';
COMMENT ON COLUMN events.subject IS 'The person or thing that the event is about, such as a user id; up to 200 bytes; NULL when the client sent none';
COMMENT ON COLUMN events.client_id IS 'The id as the client sent it, when it is not a UUID; otherwise NULL';
COMMENT ON COLUMN events.properties IS 'JSON object of the event''s own properties; numbers keep all their digits; NULL when the client sent none';
COMMENT ON COLUMN events.context IS 'JSON object of the context, such as device, library and page; NULL when the client sent none';

COMMENT ON TABLE events_default IS 'The partition of events for days that have no partition: older than the days kept, or too far ahead. Query events, not this table';
COMMENT ON COLUMN events_default.project_id IS 'See events';
COMMENT ON COLUMN events_default.timestamp IS 'See events';
COMMENT ON COLUMN events_default.event_id IS 'See events';
COMMENT ON COLUMN events_default.received_at IS 'See events; retention of this partition goes by this column';
COMMENT ON COLUMN events_default.name IS 'See events';
COMMENT ON COLUMN events_default.subject IS 'See events';
COMMENT ON COLUMN events_default.client_id IS 'See events';
COMMENT ON COLUMN events_default.properties IS 'See events';
COMMENT ON COLUMN events_default.context IS 'See events';

COMMENT ON TABLE projects IS 'One row for each project: a customer, an application or a site';
COMMENT ON COLUMN projects.project_id IS 'Number of the project; never reused';
COMMENT ON COLUMN projects.name IS 'Name of the project, unique';
COMMENT ON COLUMN projects.plan IS 'The plan that limits the project, see plans';
COMMENT ON COLUMN projects.created_at IS 'When the project was created';

COMMENT ON TABLE plans IS 'Limits of projects';
COMMENT ON COLUMN plans.name IS 'Name of the plan';
COMMENT ON COLUMN plans.requests_per_minute IS 'Requests per minute, as a long-term rate';
COMMENT ON COLUMN plans.burst IS 'Requests that may arrive together after a quiet period';
COMMENT ON COLUMN plans.events_per_month IS 'Events per calendar month, UTC; NULL is unlimited';
COMMENT ON COLUMN plans.events_per_batch IS 'Events in one request';

COMMENT ON TABLE usage_hourly IS 'Metering: one row for each project and hour with at least one accepted event. Kept indefinitely; customers are billed from it';
COMMENT ON COLUMN usage_hourly.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN usage_hourly.hour IS 'First moment of the hour of receipt, UTC';
COMMENT ON COLUMN usage_hourly.events IS 'Events stored; count of events';
COMMENT ON COLUMN usage_hourly.bytes IS 'Size of the rows stored, as sent to COPY; bytes';
COMMENT ON COLUMN usage_hourly.duplicates IS 'Events accepted and found stored already; not billed, not charged to the quota';
COMMENT ON COLUMN usage_hourly.dead IS 'Events accepted and now in dead_letters; not billed, not charged to the quota';
COMMENT ON COLUMN usage_hourly.redriven IS 'The part of the column events that redrives of dead letters stored; not charged to the quota';

COMMENT ON TABLE dead_letters IS 'Accepted events that the database refused, or whole entries that could not be read, with the reason. `millrace dead-letters` reads and redrives them';
COMMENT ON COLUMN dead_letters.dead_letter_id IS 'Number of the dead letter';
COMMENT ON COLUMN dead_letters.project_id IS 'Number of the project; 0 when the entry is too damaged to tell';
COMMENT ON COLUMN dead_letters.batch_id IS 'The batch that contained the event';
COMMENT ON COLUMN dead_letters.received_at IS 'When the batch was accepted';
COMMENT ON COLUMN dead_letters.event_index IS 'Index of the event in its batch, from 0; NULL when the dead letter is a whole entry';
COMMENT ON COLUMN dead_letters.event_count IS 'Events in this dead letter: 1 for a row, the batch''s count for a whole entry';
COMMENT ON COLUMN dead_letters.sqlstate IS 'PostgreSQL''s error code; NULL when no database refused it';
COMMENT ON COLUMN dead_letters.reason IS 'Why it was refused, in words';
COMMENT ON COLUMN dead_letters.payload IS 'The row in binary COPY format, or the bytes of the entry; `millrace dead-letters show` decodes it';
COMMENT ON COLUMN dead_letters.worker_version IS 'Version of the worker that wrote the dead letter';
COMMENT ON COLUMN dead_letters.created_at IS 'When the dead letter was written';
COMMENT ON COLUMN dead_letters.attempted_at IS 'When a redrive was last refused; NULL when none was';
COMMENT ON COLUMN dead_letters.redriven_at IS 'When a redrive stored its events; NULL until then. A redriven dead letter counts no events';
COMMENT ON COLUMN dead_letters.redrive_id IS 'The redrive that stored it, see redrives';

COMMENT ON TABLE redrives IS 'One row for each time an operator redrove dead letters';
COMMENT ON COLUMN redrives.redrive_id IS 'Identifier of the redrive';
COMMENT ON COLUMN redrives.started_at IS 'When the redrive started';
COMMENT ON COLUMN redrives.os_user IS 'User of the operating system who ran the command';
COMMENT ON COLUMN redrives.host IS 'Machine the command ran on';
COMMENT ON COLUMN redrives.filter IS 'The options of the command, which select the dead letters';
COMMENT ON COLUMN redrives.letters IS 'Dead letters tried';
COMMENT ON COLUMN redrives.stored IS 'Events of these dead letters that were stored';
COMMENT ON COLUMN redrives.duplicate IS 'Events of these dead letters that were stored already';
COMMENT ON COLUMN redrives.refused IS 'Events of these dead letters that were refused again';

-- Bookkeeping ------------------------------------------------------------------------------------------------------

COMMENT ON TABLE api_keys IS 'Bookkeeping: keys of projects. Holds signing secrets: give analysts no access';
COMMENT ON COLUMN api_keys.key_id IS 'Number of the key, for `millrace key`';
COMMENT ON COLUMN api_keys.project_id IS 'The project the key belongs to';
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the key; the key itself is not stored';
COMMENT ON COLUMN api_keys.signing_secrets IS 'Secret: 32 bytes each, newest first; not empty means that every request must be signed';
COMMENT ON COLUMN api_keys.created_at IS 'When the key was created';
COMMENT ON COLUMN api_keys.revoked_at IS 'When the key was revoked; NULL while it is valid';
COMMENT ON COLUMN api_keys.last_used_at IS 'When a request last used the key, within about a minute; NULL when none has';
COMMENT ON COLUMN api_keys.expires_at IS 'The key is refused from this moment on; NULL never expires';

COMMENT ON TABLE batches IS 'Bookkeeping, the ledger: one row for each stream entry, written in the transaction that stored its events. Partitioned by day of received_at, UTC; kept for LEDGER_DAYS';
COMMENT ON COLUMN batches.batch_id IS 'The batch_id of the answer to the client; a UUID derived from it when the same batch was accepted again';
COMMENT ON COLUMN batches.received_at IS 'When the batch was accepted: the milliseconds of the stream entry''s id';
COMMENT ON COLUMN batches.entry_seq IS 'Sequence number of the stream entry''s id';
COMMENT ON COLUMN batches.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN batches.accepted IS 'Events in the batch: stored + duplicate + dead';
COMMENT ON COLUMN batches.stored IS 'Events of the batch that are in events';
COMMENT ON COLUMN batches.duplicate IS 'Events of the batch that were stored already';
COMMENT ON COLUMN batches.dead IS 'Events of the batch that are in dead_letters';
COMMENT ON COLUMN batches.shard IS 'Shard of the stream the entry was in';
COMMENT ON COLUMN batches.redriven IS 'The part of the column stored that redrives of dead letters stored';

COMMENT ON TABLE undated_ids IS 'Bookkeeping: ids of events that were sent without a timestamp, so that a repetition is recognized. Kept for 48 hours';
COMMENT ON COLUMN undated_ids.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN undated_ids.event_id IS 'See events.event_id';
COMMENT ON COLUMN undated_ids.timestamp IS 'The timestamp of the stored event: its time of receipt';

COMMENT ON TABLE ledger_watermark IS 'Bookkeeping, one row: the day up to which retention has removed the ledger';
COMMENT ON COLUMN ledger_watermark.one_row IS 'Always true; limits the table to one row';
COMMENT ON COLUMN ledger_watermark.first_day IS 'First day of the ledger that is kept, UTC; entries of earlier days can never be written again';

COMMENT ON TABLE retired IS 'Bookkeeping: how much retention has removed, so that usage_hourly can still be compared with the tables';
COMMENT ON COLUMN retired.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN retired.what IS 'events or dead_letters';
COMMENT ON COLUMN retired.day IS 'UTC day removed: of timestamp for a partition of events, otherwise of receipt';
COMMENT ON COLUMN retired.count IS 'Events removed';

COMMENT ON TABLE retiring IS 'Bookkeeping: partitions of events that are detached and wait to be counted and dropped. Usually empty';
COMMENT ON COLUMN retiring.partition IS 'Name of the detached table';
COMMENT ON COLUMN retiring.day IS 'UTC day of the partition';

COMMENT ON TABLE stream_epochs IS 'Bookkeeping: the epoch that each shard of the stream must have; a shard with another epoch, or with none, has lost its data or was replaced';
COMMENT ON COLUMN stream_epochs.shard IS 'Number of the shard, from 0';
COMMENT ON COLUMN stream_epochs.epoch IS 'Random identifier of the data in the shard; a rebuild of its counters replaces it';
COMMENT ON COLUMN stream_epochs.changed_at IS 'When the epoch was recorded';

COMMENT ON TABLE schema_migrations IS 'Bookkeeping: the migrations that were applied';
COMMENT ON COLUMN schema_migrations.version IS 'Number of the migration';
COMMENT ON COLUMN schema_migrations.name IS 'File name of the migration, without .sql';
COMMENT ON COLUMN schema_migrations.sha256 IS 'SHA-256 of the file; a changed file is refused';
COMMENT ON COLUMN schema_migrations.applied_at IS 'When the migration was applied';
