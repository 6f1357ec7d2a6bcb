-- Erasures: what is stored of a person is removed, or loses its name. The books stay as they are: what was counted stays
-- counted, and what is removed is counted in the transaction that removes it.

CREATE TABLE erasures (
    erasure_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id      bigint NOT NULL REFERENCES projects,
    kind            text NOT NULL CHECK (kind IN ('erase', 'anonymize', 'anonymize_without_properties')),
    subject         text CHECK (subject <> ''),
    pseudonym       text NOT NULL,
    received_before timestamptz NOT NULL,
    events          bigint NOT NULL DEFAULT 0,
    cancelled       bigint NOT NULL DEFAULT 0,
    dead_letters    bigint NOT NULL DEFAULT 0,
    samples         bigint NOT NULL DEFAULT 0,
    done_by         text NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    CHECK ((subject IS NULL) = (finished_at IS NOT NULL))
);
CREATE UNIQUE INDEX erasures_open ON erasures (project_id, subject) WHERE subject IS NOT NULL;
CREATE UNIQUE INDEX erasures_pseudonym ON erasures (project_id, pseudonym);
COMMENT ON TABLE erasures IS 'Orders to erase or to anonymize a subject, kept indefinitely; the subject itself only until the order is finished';
COMMENT ON COLUMN erasures.erasure_id IS 'Number of the erasure';
COMMENT ON COLUMN erasures.project_id IS 'Number of the project, see projects';
COMMENT ON COLUMN erasures.kind IS 'erase, anonymize, or anonymize_without_properties';
COMMENT ON COLUMN erasures.subject IS 'The subject, while the erasure is not finished; then NULL';
COMMENT ON COLUMN erasures.pseudonym IS 'Subject of the figures of meters, and of anonymized events, from then on';
COMMENT ON COLUMN erasures.received_before IS 'Events that were received before are erased';
COMMENT ON COLUMN erasures.events IS 'Events that were erased or anonymized';
COMMENT ON COLUMN erasures.cancelled IS 'Of the events that were erased, those that were cancelled: their rows in cancellations are removed, too';
COMMENT ON COLUMN erasures.dead_letters IS 'Events that were erased from dead letters';
COMMENT ON COLUMN erasures.samples IS 'Samples of refusals that were removed';
COMMENT ON COLUMN erasures.done_by IS 'Who gave the order: the user and the host of the command line';
COMMENT ON COLUMN erasures.started_at IS 'When it was started';
COMMENT ON COLUMN erasures.finished_at IS 'When it was finished; NULL until then';

CREATE TABLE meter_erased (
    meter_id bigint PRIMARY KEY,
    events   bigint NOT NULL,
    faults   bigint NOT NULL
);
COMMENT ON TABLE meter_erased IS 'Events that were erased or anonymized and meters have counted, so that figures can be checked against events';
COMMENT ON COLUMN meter_erased.meter_id IS 'Number of the meter, see meters';
COMMENT ON COLUMN meter_erased.events IS 'Events that the meter has counted';
COMMENT ON COLUMN meter_erased.faults IS 'Events that it has not counted, see meter_faults';

COMMENT ON TABLE retired IS 'Bookkeeping: how much retention and erasures have removed, so that usage_hourly can still be compared with the tables';
