-- Meters: figures of the events of customers. The writer of an event adds it to the meters in its own transaction.

-- A definition never changes, apart from counted_until and deleted_at.
CREATE TABLE meters (
    meter_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id    bigint NOT NULL REFERENCES projects,
    slug          text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    event_name    text NOT NULL,
    aggregation   text NOT NULL
        CHECK (aggregation IN ('count', 'sum', 'min', 'max', 'avg', 'latest', 'unique_count')),
    value_path    text CHECK ((value_path IS NULL) = (aggregation = 'count')),
    group_names   text[] NOT NULL DEFAULT '{}' CHECK (cardinality(group_names) <= 8),
    group_paths   text[] NOT NULL DEFAULT '{}' CHECK (cardinality(group_paths) = cardinality(group_names)),
    received_from timestamptz NOT NULL,
    counted_until timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz
);
CREATE UNIQUE INDEX meters_slug ON meters (project_id, slug) WHERE deleted_at IS NULL;
COMMENT ON TABLE meters IS 'What is counted for customers';
COMMENT ON COLUMN meters.meter_id IS 'Number of the meter';
COMMENT ON COLUMN meters.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN meters.slug IS 'Name of the meter, unique in its project among the meters that are not deleted';
COMMENT ON COLUMN meters.event_name IS 'Name of the events that it counts';
COMMENT ON COLUMN meters.aggregation IS 'count, sum, min, max, avg, latest or unique_count';
COMMENT ON COLUMN meters.value_path IS 'Path to the value, such as $.tokens; NULL for a count';
COMMENT ON COLUMN meters.group_names IS 'Names of the groups';
COMMENT ON COLUMN meters.group_paths IS 'Paths to the values of the groups, in the order of group_names';
COMMENT ON COLUMN meters.received_from IS 'Events that were received before are not counted; -infinity counts all';
COMMENT ON COLUMN meters.counted_until IS 'Events with this timestamp or a later one wait for the backfill; infinity when none is under way';
COMMENT ON COLUMN meters.created_at IS 'When it was created';
COMMENT ON COLUMN meters.deleted_at IS 'When it was deleted; its figures are removed afterwards';

-- A writer that counts by outdated definitions would count wrong. So every transaction that writes events takes a shared
-- lock and reads the version, and every change of a definition takes the lock alone and makes a new version.
CREATE TABLE meters_version (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    version bigint NOT NULL
);
INSERT INTO meters_version (version) VALUES (1);
COMMENT ON TABLE meters_version IS 'Bookkeeping: the version of the definitions of meters, by which writers see that they changed';
COMMENT ON COLUMN meters_version.one_row IS 'Always true: there is one row';
COMMENT ON COLUMN meters_version.version IS 'Grows with each change of a definition';

-- 1835365477 is "mete".
CREATE FUNCTION millrace_meters_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1835365477);
    UPDATE meters_version SET version = version + 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER changed BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON meters
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_meters_changed();

-- Takes the shared lock until the transaction ends, then reads the version. A function of several statements, because
-- one statement would read what was there before it waited for the lock.
CREATE FUNCTION millrace_meters_version() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1835365477);
    PERFORM set_config('millrace.counts_meters', 'on', true);
    RETURN (SELECT version FROM meters_version);
END
$$;
COMMENT ON FUNCTION millrace_meters_version IS 'The version of the definitions of meters, which cannot change until the transaction ends';

-- A program of an earlier release stores events without counting them. Where there are meters, it must not: it fails, and
-- a worker that counts takes its entries over.
CREATE FUNCTION millrace_refuse_without_meters() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM meters WHERE deleted_at IS NULL) THEN
        RAISE EXCEPTION 'this program does not count meters, and this database has some'
              USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Stop it, and start a newer release.';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER counts_meters BEFORE INSERT OR UPDATE ON usage_hourly FOR EACH STATEMENT
    WHEN (current_setting('millrace.counts_meters', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION millrace_refuse_without_meters();

-- The figures: one row for each subject, quarter of an hour and combination of group values.
CREATE TABLE meter_usage (
    meter_id  bigint NOT NULL,
    subject   text NOT NULL,
    bucket    timestamptz NOT NULL,
    groups    text NOT NULL,
    events    bigint NOT NULL,
    value     numeric NOT NULL,
    latest_at timestamptz,
    latest_id uuid,
    PRIMARY KEY (meter_id, subject, bucket, groups)
) WITH (fillfactor = 80);
COMMENT ON TABLE meter_usage IS 'Figures of meters, except unique_count, by subject and quarter of an hour, without what still waits in meter_additions';
COMMENT ON COLUMN meter_usage.meter_id IS 'Number of the meter, see meters';
COMMENT ON COLUMN meter_usage.subject IS 'Subject of the events; empty for events without one';
COMMENT ON COLUMN meter_usage.bucket IS 'Start of the quarter of an hour of the events'' timestamps';
COMMENT ON COLUMN meter_usage.groups IS 'Values of the groups, a JSON array of texts and nulls in the order of meters.group_names';
COMMENT ON COLUMN meter_usage.events IS 'Events counted';
COMMENT ON COLUMN meter_usage.value IS 'The sum (sum, avg), smallest, largest or latest value; 0 for a count';
COMMENT ON COLUMN meter_usage.latest_at IS 'For latest: timestamp of the event';
COMMENT ON COLUMN meter_usage.latest_id IS 'For latest: id of the event';

CREATE TABLE meter_uniques (
    meter_id bigint NOT NULL,
    subject  text NOT NULL,
    bucket   timestamptz NOT NULL,
    groups   text NOT NULL,
    value    text NOT NULL,
    events   bigint NOT NULL,
    PRIMARY KEY (meter_id, subject, bucket, groups, value)
) WITH (fillfactor = 80);
COMMENT ON TABLE meter_uniques IS 'The different values of meters with unique_count, by subject and quarter of an hour, without what still waits in meter_additions';
COMMENT ON COLUMN meter_uniques.meter_id IS 'Number of the meter, see meters';
COMMENT ON COLUMN meter_uniques.subject IS 'Subject of the events; empty for events without one';
COMMENT ON COLUMN meter_uniques.bucket IS 'Start of the quarter of an hour of the events'' timestamps';
COMMENT ON COLUMN meter_uniques.groups IS 'Values of the groups, as in meter_usage';
COMMENT ON COLUMN meter_uniques.value IS 'The value';
COMMENT ON COLUMN meter_uniques.events IS 'Events with this value';

-- What transactions add to figures: one row for each meter and transaction, all of one subject, bucket and group at the
-- same place of each array. A worker moves them to the figures in bulk, many transactions at a time:
-- otherwise each transaction would update one row for each of its subjects.
CREATE TABLE meter_additions (
    meter_id    bigint NOT NULL,
    addition_id bigint GENERATED ALWAYS AS IDENTITY,
    subjects    text[] NOT NULL,
    buckets     timestamptz[] NOT NULL,
    groups      text[] NOT NULL,
    events      bigint[] NOT NULL,
    "values"    numeric[],
    latest_at   timestamptz[],
    latest_ids  uuid[],
    texts       text[],
    PRIMARY KEY (meter_id, addition_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE meter_additions
    ALTER COLUMN subjects SET STORAGE EXTERNAL, ALTER COLUMN groups SET STORAGE EXTERNAL,
    ALTER COLUMN "values" SET STORAGE EXTERNAL, ALTER COLUMN texts SET STORAGE EXTERNAL;
COMMENT ON TABLE meter_additions IS 'What transactions added to figures of meters and a worker has not moved there yet';
COMMENT ON COLUMN meter_additions.meter_id IS 'Number of the meter, see meters';
COMMENT ON COLUMN meter_additions.addition_id IS 'Number of the row';
COMMENT ON COLUMN meter_additions.subjects IS 'Of each figure: see meter_usage.subject';
COMMENT ON COLUMN meter_additions.buckets IS 'Of each figure: see meter_usage.bucket';
COMMENT ON COLUMN meter_additions.groups IS 'Of each figure: see meter_usage.groups';
COMMENT ON COLUMN meter_additions.events IS 'Of each figure: events to add';
COMMENT ON COLUMN meter_additions."values" IS 'Of each figure: the sum, smallest, largest or latest value of these events; NULL for counts';
COMMENT ON COLUMN meter_additions.latest_at IS 'Of each figure: see meter_usage.latest_at; NULL unless the meter has latest';
COMMENT ON COLUMN meter_additions.latest_ids IS 'Of each figure: see meter_usage.latest_id; NULL unless the meter has latest';
COMMENT ON COLUMN meter_additions.texts IS 'Of each figure: see meter_uniques.value; NULL unless the meter has unique_count';

CREATE TABLE meter_faults (
    meter_id bigint NOT NULL,
    fault    text NOT NULL,
    events   bigint NOT NULL,
    sample   bytea NOT NULL,
    last_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (meter_id, fault)
);
COMMENT ON TABLE meter_faults IS 'Stored events with the name of a meter''s events that it does not count';
COMMENT ON COLUMN meter_faults.meter_id IS 'Number of the meter, see meters';
COMMENT ON COLUMN meter_faults.fault IS 'Why they are not counted';
COMMENT ON COLUMN meter_faults.events IS 'How many';
COMMENT ON COLUMN meter_faults.sample IS 'Properties of the last one that was kept as a sample, at most 1 KiB';
COMMENT ON COLUMN meter_faults.last_at IS 'When the last one was stored';

CREATE TABLE meter_retired (
    meter_id bigint NOT NULL,
    day      date NOT NULL,
    events   bigint NOT NULL,
    faults   bigint NOT NULL,
    PRIMARY KEY (meter_id, day)
);
COMMENT ON TABLE meter_retired IS 'Events that retention has removed and meters have counted, so that figures can be checked against events';
COMMENT ON COLUMN meter_retired.meter_id IS 'Number of the meter, see meters';
COMMENT ON COLUMN meter_retired.day IS 'Day of the timestamps, UTC';
COMMENT ON COLUMN meter_retired.events IS 'Events that the meter has counted';
COMMENT ON COLUMN meter_retired.faults IS 'Events that it has not counted, see meter_faults';
