-- Whether the addresses of a project's clients are stored. The trigger of `projects` for updates tells the API of every
-- change. A program of the release before does not know the column, and stores no address for any value of it. No statement
-- reads or rewrites a large table.

ALTER TABLE projects ADD COLUMN store_ip boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN projects.store_ip IS 'Whether context.ip of each event has the address of its client';
