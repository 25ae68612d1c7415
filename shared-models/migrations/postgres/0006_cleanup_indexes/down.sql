DROP INDEX CONCURRENTLY IF EXISTS jwt_maintenance_token_expires;
DROP INDEX CONCURRENTLY IF EXISTS jwt_maintenance_token_revoked;
