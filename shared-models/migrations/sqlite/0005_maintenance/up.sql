-- Those that are there stay: one may have been dropped, to be made anew.
-- Key pairs are named by their id as text, so that integer and UUID keys fit alike.
CREATE TABLE IF NOT EXISTS jwt_maintenance_key_state (
    key_pair varchar(64) NOT NULL PRIMARY KEY,
    kid varchar(100) NOT NULL,
    is_pending bool NOT NULL,
    is_withdrawn bool NOT NULL,
    activated_at datetime NULL,
    superseded_at datetime NULL,
    retired_at datetime NULL
);
CREATE TABLE IF NOT EXISTS jwt_maintenance_audit_event (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    at datetime NOT NULL,
    action varchar(40) NOT NULL,
    key_pair varchar(64) NOT NULL,
    kid varchar(100) NOT NULL,
    reason text NOT NULL,
    actor varchar(255) NOT NULL
);
CREATE INDEX IF NOT EXISTS jwt_maintenance_audit_event_at ON jwt_maintenance_audit_event (at);
CREATE TABLE IF NOT EXISTS jwt_maintenance_forced_rotation (
    task_id varchar(255) NOT NULL PRIMARY KEY,
    rotated_at datetime NOT NULL,
    key_pair varchar(64) NOT NULL
);
CREATE TABLE IF NOT EXISTS jwt_maintenance_task_success (
    task varchar(100) NOT NULL PRIMARY KEY,
    first_at datetime NOT NULL,
    last_at datetime NOT NULL
);
