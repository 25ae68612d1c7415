//! The tables as Diesel knows them. Written by hand, because one declaration serves both databases
//! and both kinds of keys; that they are so in the databases is what [`crate::Database::check`]
//! and the tests compare.

diesel::table! {
    use diesel::sql_types::{Bool, Nullable, Text};
    use crate::{RowIdSql, UtcDateTimeSql};

    jwt_auth_jwtkeypair (id) {
        id -> RowIdSql,
        name -> Text,
        private_key_pem -> Text,
        public_key_pem -> Text,
        is_active -> Bool,
        created_at -> UtcDateTimeSql,
        expires_at -> Nullable<UtcDateTimeSql>,
    }
}

diesel::table! {
    use diesel::sql_types::{Bool, Text};
    use crate::{RowIdSql, UtcDateTimeSql};

    jwt_auth_jwtscope (id) {
        id -> RowIdSql,
        name -> Text,
        description -> Text,
        is_active -> Bool,
        created_at -> UtcDateTimeSql,
    }
}

diesel::table! {
    use diesel::sql_types::{Bool, Nullable, Text};
    use crate::{RowIdSql, UtcDateTimeSql};

    jwt_auth_jwttoken (id) {
        id -> RowIdSql,
        token_id -> Text,
        created_at -> UtcDateTimeSql,
        issued_at -> UtcDateTimeSql,
        expires_at -> UtcDateTimeSql,
        is_revoked -> Bool,
        revoked_at -> Nullable<UtcDateTimeSql>,
        purpose -> Text,
        key_pair_id -> RowIdSql,
        user_id -> RowIdSql,
    }
}

diesel::table! {
    use diesel::sql_types::{Bool, Nullable, Text};
    use crate::UtcDateTimeSql;

    jwt_maintenance_key_state (key_pair) {
        key_pair -> Text,
        kid -> Text,
        is_pending -> Bool,
        is_withdrawn -> Bool,
        activated_at -> Nullable<UtcDateTimeSql>,
        superseded_at -> Nullable<UtcDateTimeSql>,
        retired_at -> Nullable<UtcDateTimeSql>,
    }
}

diesel::table! {
    use diesel::sql_types::{BigInt, Text};
    use crate::UtcDateTimeSql;

    jwt_maintenance_audit_event (id) {
        id -> BigInt,
        at -> UtcDateTimeSql,
        action -> Text,
        key_pair -> Text,
        kid -> Text,
        reason -> Text,
        actor -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::Text;
    use crate::UtcDateTimeSql;

    jwt_maintenance_forced_rotation (task_id) {
        task_id -> Text,
        rotated_at -> UtcDateTimeSql,
        key_pair -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::Text;
    use crate::UtcDateTimeSql;

    jwt_maintenance_task_success (task) {
        task -> Text,
        first_at -> UtcDateTimeSql,
        last_at -> UtcDateTimeSql,
    }
}
