//! How a site's tables look: which kind of keys they have, and which columns they lack.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;

use crate::{AnyConnection, DatabaseError, migrations};

/// What differs between the tables of two sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The primary keys of key pairs.
    pub key_pair_ids: IdKind,
    /// The primary keys of scopes.
    pub scope_ids: IdKind,
    /// Whether key pairs have a `name`, which is their `kid`.
    pub key_pair_name: bool,
    /// Whether tokens remember when they were revoked.
    pub token_revoked_at: bool,
    /// The column that says when a token's row was made.
    pub token_created: Option<&'static str>,
    /// Whether there is an index over the tokens that begins with `expires_at`.
    pub token_expiry_index: bool,
    /// Whether there is an index that tells revoked tokens from others, or by when they were revoked.
    pub token_revocation_index: bool,
    /// What else a token's row has.
    pub token: TokenColumns,
}

/// What a token's row has beyond the columns that maintenance cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenColumns {
    /// The primary keys of tokens.
    pub ids: IdKind,
    /// Whether there is a `token_id`, the `jti`.
    pub jti: bool,
    /// The keys of the site's users, where there is a `user_id`.
    pub user: Option<UserIdKind>,
    /// Whether there is a `created_at`.
    pub created_at: bool,
    /// Whether there is an `issued_at`.
    pub issued_at: bool,
    /// Whether there is a `purpose`.
    pub purpose: bool,
}

/// The primary keys of a site's users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserIdKind {
    /// Numbers.
    Integer,
    /// UUIDs.
    Uuid,
    /// Any text.
    Text,
}

/// Who makes the primary key of a new row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// The database counts.
    Integer,
    /// We do.
    Uuid,
}

const KEY_PAIR: &str = "jwt_auth_jwtkeypair";
const SCOPE: &str = "jwt_auth_jwtscope";
const TOKEN: &str = "jwt_auth_jwttoken";
const TOKEN_SCOPES: &str = "jwt_auth_jwttoken_scopes";

/// The error for a column that most work can do without, and some cannot.
pub(crate) fn lacks(table: &str, column: &str) -> DatabaseError {
    DatabaseError::Schema(format!("table {table} has no column {column}: {DJANGO_ADDS_IT}"))
}

const DJANGO_ADDS_IT: &str = "a migration of the Django app jwt_auth has to add it (`manage.py makemigrations jwt_auth`, then `migrate`)";

/// Every table with the columns that we cannot do without.
const NEEDED: [(&str, &[&str]); 8] = [
    (KEY_PAIR, &["id", "private_key_pem", "public_key_pem", "is_active", "created_at"]),
    (SCOPE, &["id", "name", "description", "is_active", "created_at"]),
    (TOKEN, &["id", "key_pair_id", "expires_at", "is_revoked"]),
    (TOKEN_SCOPES, &["jwttoken_id"]),
    (
        "jwt_maintenance_key_state",
        &[
            "key_pair",
            "kid",
            "is_pending",
            "is_withdrawn",
            "activated_at",
            "superseded_at",
            "retired_at",
        ],
    ),
    ("jwt_maintenance_audit_event", &["id", "at", "action", "key_pair", "kid", "reason", "actor"]),
    ("jwt_maintenance_forced_rotation", &["task_id", "rotated_at", "key_pair"]),
    ("jwt_maintenance_task_success", &["task", "first_at", "last_at"]),
];

#[derive(Debug, QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
    #[diesel(sql_type = Text)]
    type_name: String,
}

#[derive(Debug, QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Looks at the tables.
pub(crate) fn detect(connection: &mut AnyConnection) -> Result<Layout, DatabaseError> {
    let columns = columns(connection)?;
    let found = |table: &str, column: &str| {
        columns.iter().find(|found| found.table_name == table && found.column_name == column)
    };
    let missing = missing(&columns);
    if !missing.is_empty() {
        return Err(DatabaseError::Schema(missing.join("; ")));
    }
    let id_kind = |table: &str| match found(table, "id").map(|id| id.type_name.as_str()) {
        Some("uuid" | "char(32)") => Ok(IdKind::Uuid),
        Some("bigint" | "integer" | "int" | "smallint") => Ok(IdKind::Integer),
        other => Err(DatabaseError::Schema(format!(
            "the column id of table {table} is of type {}: integer and UUID keys are supported",
            other.unwrap_or_default()
        ))),
    };
    let user = found(TOKEN, "user_id").map(|user| match user.type_name.as_str() {
        "uuid" | "char(32)" => UserIdKind::Uuid,
        "bigint" | "integer" | "int" | "smallint" => UserIdKind::Integer,
        _ => UserIdKind::Text,
    });
    let token_created =
        ["created_at", "issued_at"].into_iter().find(|column| found(TOKEN, column).is_some());
    Ok(Layout {
        key_pair_ids: id_kind(KEY_PAIR)?,
        scope_ids: id_kind(SCOPE)?,
        key_pair_name: found(KEY_PAIR, "name").is_some(),
        token_revoked_at: found(TOKEN, "revoked_at").is_some(),
        token_created,
        token_expiry_index: has_expiry_index(connection)?,
        token_revocation_index: has_revocation_index(connection)?,
        token: TokenColumns {
            ids: id_kind(TOKEN)?,
            jti: found(TOKEN, "token_id").is_some(),
            user,
            created_at: found(TOKEN, "created_at").is_some(),
            issued_at: found(TOKEN, "issued_at").is_some(),
            purpose: found(TOKEN, "purpose").is_some(),
        },
    })
}

/// A sentence for each table or column that is not there.
fn missing(columns: &[Column]) -> Vec<String> {
    let has = |table: &str, column: Option<&str>| {
        columns.iter().any(|found| {
            found.table_name == table && column.is_none_or(|column| found.column_name == column)
        })
    };
    let mut missing = Vec::new();
    for (table, needed) in NEEDED {
        let ours = table.starts_with("jwt_maintenance_");
        if !has(table, None) {
            let migration = migrations::that_makes(table);
            let django =
                if ours { "" } else { ", or Django's own migration: `manage.py migrate jwt_auth`" };
            missing.push(format!(
                "table {table} is missing: migration {migration} makes it (`jwt_manage migrate`){django}"
            ));
            continue;
        }
        for column in needed.iter().filter(|column| !has(table, Some(column))) {
            let cure = if ours {
                format!(
                    "migration {} makes it: drop the table and run `jwt_manage migrate`",
                    migrations::that_makes(table)
                )
            } else {
                DJANGO_ADDS_IT.to_owned()
            };
            missing.push(format!("table {table} has no column {column}: {cure}"));
        }
    }
    missing
}

fn columns(connection: &mut AnyConnection) -> QueryResult<Vec<Column>> {
    let names: Vec<String> = NEEDED.iter().map(|(table, _)| format!("'{table}'")).collect();
    let query = if connection.is_postgres() {
        let tables: Vec<String> = names.iter().map(|name| format!("to_regclass({name})")).collect();
        format!(
            "SELECT c.relname::text AS table_name, a.attname::text AS column_name, \
             format_type(a.atttypid, NULL) AS type_name \
             FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
             WHERE c.oid IN ({}) AND a.attnum > 0 AND NOT a.attisdropped",
            tables.join(", ")
        )
    } else {
        format!(
            "SELECT m.name AS table_name, p.name AS column_name, lower(p.type) AS type_name \
             FROM sqlite_master m JOIN pragma_table_info(m.name) p \
             WHERE m.type = 'table' AND m.name IN ({})",
            names.join(", ")
        )
    };
    sql_query(query).load(connection)
}

fn has_expiry_index(connection: &mut AnyConnection) -> QueryResult<bool> {
    let query = if connection.is_postgres() {
        "SELECT c.relname::text AS name FROM pg_index i \
         JOIN pg_class c ON c.oid = i.indexrelid \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = to_regclass('jwt_auth_jwttoken') AND i.indisvalid \
         AND a.attname = 'expires_at'"
    } else {
        "SELECT l.name AS name FROM pragma_index_list('jwt_auth_jwttoken') l \
         JOIN pragma_index_info(l.name) i WHERE i.seqno = 0 AND i.name = 'expires_at'"
    };
    let indexes: Vec<Name> = sql_query(query).load(connection)?;
    log::debug!(
        "indexes over expires_at: {:?}",
        indexes.iter().map(|i| &i.name).collect::<Vec<_>>()
    );
    Ok(!indexes.is_empty())
}

/// A condition counts as well as a column. PostgreSQL is asked for what the indexes depend on, not for
/// their definitions: those wait for whoever has locked the table.
fn has_revocation_index(connection: &mut AnyConnection) -> QueryResult<bool> {
    let query = if connection.is_postgres() {
        "SELECT a.attname::text AS name FROM pg_index i \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname IN ('is_revoked', 'revoked_at') \
         WHERE i.indrelid = to_regclass('jwt_auth_jwttoken') AND (a.attnum = ANY (i.indkey) \
         OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass \
         AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass \
         AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))"
    } else {
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'jwt_auth_jwttoken' \
         AND (sql LIKE '%is_revoked%' OR sql LIKE '%revoked_at%')"
    };
    let indexes: Vec<Name> = sql_query(query).load(connection)?;
    Ok(!indexes.is_empty())
}
