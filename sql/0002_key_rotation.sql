-- A key can end by itself: when it is rotated, the old one works until the overlap is over.
ALTER TABLE api_keys ADD COLUMN expires_at timestamptz;
COMMENT ON COLUMN api_keys.expires_at IS 'refused from this moment on; NULL never expires';

-- The request path must hear of it.
DROP TRIGGER changed ON api_keys;
CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OF project_id, key_hash, signing_secrets, expires_at, revoked_at OR DELETE OR TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION millrace_accounts_changed();
