CREATE INDEX IF NOT EXISTS jwt_maintenance_token_expires
    ON jwt_auth_jwttoken (expires_at, id) WHERE NOT is_revoked;
CREATE INDEX IF NOT EXISTS jwt_maintenance_token_revoked
    ON jwt_auth_jwttoken (revoked_at) WHERE is_revoked;
