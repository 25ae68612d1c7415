DROP INDEX IF EXISTS jwt_maintenance_token_expires;
DROP INDEX IF EXISTS jwt_maintenance_token_revoked;
