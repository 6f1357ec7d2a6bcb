-- Keys of programs that manage the installation over HTTP. The columns are explained in the migration of the same name
-- for PostgreSQL.

CREATE TABLE admin_keys (
    admin_key_id INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL,
    key_hash     BLOB NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    created_at   INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
