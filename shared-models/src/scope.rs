//! `jwt_auth_jwtscope`: what tokens may permit.

use diesel::prelude::*;
use uuid::Uuid;

use crate::schema::jwt_auth_jwtscope::{self, dsl};
use crate::{AnyConnection, IdKind, Layout, RowId, UtcDateTime};

/// A scope as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct Scope {
    /// Its primary key.
    pub id: RowId,
    /// What tokens call it.
    pub name: String,
    /// What people read.
    pub description: String,
    /// Whether tokens may still carry it.
    pub is_active: bool,
    /// When the row was made.
    pub created_at: UtcDateTime,
}

/// A scope to be stored.
#[derive(Debug, Insertable)]
#[diesel(table_name = jwt_auth_jwtscope)]
pub struct NewScope<'a> {
    id: Option<RowId>,
    name: &'a str,
    description: &'a str,
    is_active: bool,
    created_at: UtcDateTime,
}

impl<'a> NewScope<'a> {
    /// A new active scope.
    pub fn active(
        layout: &Layout,
        name: &'a str,
        description: &'a str,
        created_at: UtcDateTime,
    ) -> Self {
        Self {
            id: (layout.scope_ids == IdKind::Uuid).then(|| RowId::Uuid(Uuid::new_v4())),
            name,
            description,
            is_active: true,
            created_at,
        }
    }

    /// Stores it.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn insert(&self, connection: &mut AnyConnection) -> QueryResult<RowId> {
        diesel::insert_into(dsl::jwt_auth_jwtscope)
            .values(self)
            .returning(dsl::id)
            .get_result(connection)
    }
}

impl Scope {
    /// All of them by name.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn all(connection: &mut AnyConnection) -> QueryResult<Vec<Self>> {
        dsl::jwt_auth_jwtscope
            .select((dsl::id, dsl::name, dsl::description, dsl::is_active, dsl::created_at))
            .order(dsl::name.asc())
            .load(connection)
    }
}
