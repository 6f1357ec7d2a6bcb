-- Whether the addresses of a project's clients are stored. The column is explained in the migration of the same name for
-- PostgreSQL.

ALTER TABLE projects ADD COLUMN store_ip INTEGER NOT NULL DEFAULT 0 CHECK (store_ip IN (0, 1));
