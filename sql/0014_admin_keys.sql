-- Keys of programs that manage the installation over HTTP: projects, keys, plans and meters.

CREATE TABLE admin_keys (
    admin_key_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL,
    key_hash     bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at   timestamptz
);
COMMENT ON TABLE admin_keys IS 'Keys that manage the installation over HTTP, and belong to no project';
COMMENT ON COLUMN admin_keys.admin_key_id IS 'Number of the key';
COMMENT ON COLUMN admin_keys.name IS 'What the key is for';
COMMENT ON COLUMN admin_keys.key_hash IS 'SHA-256 of the key';
COMMENT ON COLUMN admin_keys.created_at IS 'When it was created';
COMMENT ON COLUMN admin_keys.last_used_at IS 'When it was last used, to the minute';
COMMENT ON COLUMN admin_keys.revoked_at IS 'When it was revoked';
