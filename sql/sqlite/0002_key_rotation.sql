-- A key can end by itself: when it is rotated, the old one works until the overlap is over.
ALTER TABLE api_keys ADD COLUMN expires_at INTEGER; -- refused from this moment on; NULL never expires

-- The request path must hear of it.
DROP TRIGGER key_changed;
CREATE TRIGGER key_changed AFTER UPDATE OF project_id, key_hash, signing_secrets, expires_at, revoked_at ON api_keys
    BEGIN UPDATE accounts_version SET version = version + 1; END;
