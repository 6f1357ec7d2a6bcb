-- The edge: scopes of keys, policies of projects, conflicts, and what was refused.
-- Every change adds columns or tables, so programs of the release before work with it. No statement reads or rewrites a
-- large table.

-- Keys -------------------------------------------------------------------------------------------------------------

ALTER TABLE api_keys
    ADD COLUMN scope           text NOT NULL DEFAULT 'full' CHECK (scope IN ('write', 'read', 'full')),
    ADD COLUMN allowed_origins text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN api_keys.scope IS 'What the key may do: write sends events, read reads reports, full does both';
COMMENT ON COLUMN api_keys.allowed_origins IS 'Origins of pages that may use the key, such as https://shop.example; empty allows every client';

-- API processes must learn of it.
DROP TRIGGER changed ON api_keys;
CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OF project_id, key_hash, signing_secrets, expires_at, revoked_at, scope, allowed_origins
       OR DELETE OR TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_accounts_changed();

-- Projects ---------------------------------------------------------------------------------------------------------

ALTER TABLE projects
    ADD COLUMN dedupe        text NOT NULL DEFAULT 'id-and-timestamp' CHECK (dedupe IN ('id', 'id-and-timestamp')),
    ADD COLUMN oldest_s      bigint CHECK (oldest_s > 0),
    ADD COLUMN newest_s      bigint CHECK (newest_s > 0),
    ADD COLUMN out_of_bounds text NOT NULL DEFAULT 'receive-time' CHECK (out_of_bounds IN ('receive-time', 'refuse'));
COMMENT ON COLUMN projects.dedupe IS 'How a repeated event is recognized: by its id and timestamp, or by its id alone for as long as the ledger is kept';
COMMENT ON COLUMN projects.oldest_s IS 'How long before its receipt an event may have happened, in seconds; NULL has no bound';
COMMENT ON COLUMN projects.newest_s IS 'How long after its receipt an event may happen, in seconds; NULL has no bound';
COMMENT ON COLUMN projects.out_of_bounds IS 'What happens to an event outside these bounds: it takes its time of receipt, or it is refused';

-- Repetitions ------------------------------------------------------------------------------------------------------

-- A project that recognizes repetitions by id alone keeps the ids of all its events here, as long as the ledger.
ALTER TABLE undated_ids ADD COLUMN received_at timestamptz;
COMMENT ON COLUMN undated_ids.timestamp IS 'The timestamp of the stored event';
COMMENT ON COLUMN undated_ids.received_at IS 'When the row is kept as long as the ledger: since when. That is when the event was received, if its project recognizes repetitions by id alone, or when it was redriven. Otherwise NULL';
COMMENT ON TABLE undated_ids IS 'Bookkeeping: ids that identify events by themselves, so that a repetition is recognized. Of events without a timestamp they are kept for 48 hours; of projects that recognize repetitions by id alone, as long as the ledger';
DROP INDEX undated_ids_timestamp;
CREATE INDEX undated_ids_timestamp ON undated_ids (timestamp) WHERE received_at IS NULL;
CREATE INDEX undated_ids_received_at ON undated_ids (received_at) WHERE received_at IS NOT NULL;

ALTER TABLE batches ADD COLUMN conflict bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN batches.conflict IS 'The part of the column duplicate whose payload differs from the stored event';
ALTER TABLE usage_hourly ADD COLUMN conflicts bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN usage_hourly.conflicts IS 'The part of the column duplicates whose payload differs from the stored event';

CREATE OR REPLACE VIEW usage_readable AS
SELECT u.project_id, p.name AS project, u.hour, u.events, u.bytes, u.duplicates, u.dead, u.redriven, u.conflicts
  FROM usage_hourly u LEFT JOIN projects p ON p.project_id = u.project_id;
COMMENT ON COLUMN usage_readable.conflicts IS 'The part of the column duplicates whose payload differs from the stored event';

-- What was refused -------------------------------------------------------------------------------------------------

ALTER TABLE dead_letters ADD COLUMN code text;
COMMENT ON COLUMN dead_letters.code IS 'Why the API could not read the call, such as invalid_type: the payload is then the call as it was sent, up to a limit. NULL when the letter was written for another reason';

CREATE TABLE rejections_hourly (
    project_id bigint NOT NULL,
    hour       timestamptz NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('event', 'request', 'dead', 'conflict')),
    code       text NOT NULL,
    count      bigint NOT NULL,
    PRIMARY KEY (project_id, hour, kind, code)
);
CREATE INDEX rejections_hourly_hour ON rejections_hourly (hour);
COMMENT ON TABLE rejections_hourly IS 'What was refused, by project, hour and reason: for owners of projects, not for bills';
COMMENT ON COLUMN rejections_hourly.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN rejections_hourly.hour IS 'First moment of the hour, UTC';
COMMENT ON COLUMN rejections_hourly.kind IS 'event: an event was refused in the answer; request: a whole request was refused; dead: an accepted event became a dead letter; conflict: a duplicate had another payload';
COMMENT ON COLUMN rejections_hourly.code IS 'The reason: the code of the answer, or the SQLSTATE of a dead letter';
COMMENT ON COLUMN rejections_hourly.count IS 'Events, or requests';

-- The last samples of each project and kind; older ones are deleted.
CREATE TABLE rejection_samples (
    sample_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id  bigint NOT NULL,
    at          timestamptz NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('event', 'request', 'dead', 'conflict')),
    code        text NOT NULL,
    field       text,
    message     text NOT NULL,
    payload     bytea
);
COMMENT ON TABLE rejection_samples IS 'The last refusals of each project and kind, as samples of rejections_hourly';
COMMENT ON COLUMN rejection_samples.sample_id IS 'Number of the sample; a higher number is newer';
COMMENT ON COLUMN rejection_samples.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN rejection_samples.at IS 'When it was refused';
COMMENT ON COLUMN rejection_samples.kind IS 'See rejections_hourly.kind';
COMMENT ON COLUMN rejection_samples.code IS 'See rejections_hourly.code';
COMMENT ON COLUMN rejection_samples.field IS 'The invalid field, if one field is the cause';
COMMENT ON COLUMN rejection_samples.message IS 'What is wrong, and what would be valid';
COMMENT ON COLUMN rejection_samples.payload IS 'The event as it was sent, up to a limit; NULL when there is none';
CREATE INDEX rejection_samples_project ON rejection_samples (project_id, kind, sample_id);
-- Retention, and the last samples of all projects.
CREATE INDEX rejection_samples_at ON rejection_samples (at);

-- A report whose answer was lost is sent again, and must not be counted twice.
CREATE TABLE rejection_sources (
    source uuid PRIMARY KEY,
    report bigint NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE rejection_sources IS 'Bookkeeping: the last report of each API process that is in rejections_hourly';
COMMENT ON COLUMN rejection_sources.source IS 'The process, by a number that it chose at its start';
COMMENT ON COLUMN rejection_sources.report IS 'Number of its last report, which was added once';
COMMENT ON COLUMN rejection_sources.at IS 'When that report was added; older rows than a month are deleted';
