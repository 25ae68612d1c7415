//! `jwt_auth_jwtkeypair`: the keys that sign and verify.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};
use secrecy::SecretString;
use uuid::Uuid;

use crate::connection::MultiBackend;
use crate::schema::jwt_auth_jwtkeypair::dsl;
use crate::{AnyConnection, IdKind, Layout, RowId, RowIdSql, UtcDateTime, UtcDateTimeSql};

/// A key pair as it is stored, without its private half.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct KeyPair {
    /// Its primary key.
    #[diesel(sql_type = RowIdSql)]
    pub id: RowId,
    /// The `kid`; empty where the site's table has no such column.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The public half.
    #[diesel(sql_type = Text)]
    pub public_key_pem: String,
    /// Whether it may sign.
    #[diesel(sql_type = Bool)]
    pub is_active: bool,
    /// When the row was made; never changed.
    #[diesel(sql_type = UtcDateTimeSql)]
    pub created_at: UtcDateTime,
}

/// A key pair to be stored.
pub struct NewKeyPair<'a> {
    id: Option<RowId>,
    name: Option<&'a str>,
    private_key_pem: &'a str,
    public_key_pem: &'a str,
    is_active: bool,
    created_at: UtcDateTime,
}

impl std::fmt::Debug for NewKeyPair<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKeyPair").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> NewKeyPair<'a> {
    /// A new active key pair with its `kid` and both halves as PEM.
    pub fn active(
        layout: &Layout,
        kid: &'a str,
        private_key_pem: &'a str,
        public_key_pem: &'a str,
        created_at: UtcDateTime,
    ) -> Self {
        Self {
            id: (layout.key_pair_ids == IdKind::Uuid).then(|| RowId::Uuid(Uuid::new_v4())),
            name: layout.key_pair_name.then_some(kid),
            private_key_pem,
            public_key_pem,
            is_active: true,
            created_at,
        }
    }

    /// The same, not yet active.
    #[must_use]
    pub fn inactive(mut self) -> Self {
        self.is_active = false;
        self
    }

    /// Stores it.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn insert(&self, connection: &mut AnyConnection) -> QueryResult<RowId> {
        let mut columns = vec!["private_key_pem", "public_key_pem", "is_active", "created_at"];
        columns.extend(self.name.map(|_| "name"));
        columns.extend(self.id.map(|_| "id"));
        let places: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
        let query = format!(
            "INSERT INTO jwt_auth_jwtkeypair ({}) VALUES ({}) RETURNING id",
            columns.join(", "),
            places.join(", ")
        );
        let mut query = sql_query(query)
            .into_boxed::<MultiBackend>()
            .bind::<Text, _>(self.private_key_pem)
            .bind::<Text, _>(self.public_key_pem)
            .bind::<Bool, _>(self.is_active)
            .bind::<UtcDateTimeSql, _>(self.created_at);
        if let Some(name) = self.name {
            query = query.bind::<Text, _>(name);
        }
        if let Some(id) = self.id {
            query = query.bind::<RowIdSql, _>(id);
        }
        query.get_result::<Id>(connection).map(|row| row.id)
    }
}

impl KeyPair {
    /// All of them, the newest first.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn all(connection: &mut AnyConnection, layout: &Layout) -> QueryResult<Vec<Self>> {
        let name = if layout.key_pair_name { "name" } else { "'' AS name" };
        sql_query(format!(
            "SELECT id, {name}, public_key_pem, is_active, created_at \
             FROM jwt_auth_jwtkeypair ORDER BY created_at DESC, id DESC"
        ))
        .load(connection)
    }

    /// Its private half, in the form in which it is stored.
    ///
    /// # Errors
    ///
    /// Those of the database; not found where the row is gone.
    pub fn private_key_pem(&self, connection: &mut AnyConnection) -> QueryResult<SecretString> {
        dsl::jwt_auth_jwtkeypair
            .filter(dsl::id.eq(self.id))
            .select(dsl::private_key_pem)
            .get_result::<String>(connection)
            .map(SecretString::from)
    }

    /// Stores the private half in another form. Says whether it was still the form `before`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn replace_private_key_pem(
        &self,
        connection: &mut AnyConnection,
        before: &str,
        after: &str,
    ) -> QueryResult<bool> {
        overwrite_what_is_freed(connection)?;
        diesel::update(
            dsl::jwt_auth_jwtkeypair
                .filter(dsl::id.eq(self.id))
                .filter(dsl::private_key_pem.eq(before)),
        )
        .set(dsl::private_key_pem.eq(after))
        .execute(connection)
        .map(|changed| changed == 1)
    }

    /// Overwrites the private half with nothing. Says whether there was one.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn wipe_private_key(id: RowId, connection: &mut AnyConnection) -> QueryResult<bool> {
        overwrite_what_is_freed(connection)?;
        diesel::update(
            dsl::jwt_auth_jwtkeypair.filter(dsl::id.eq(id)).filter(dsl::private_key_pem.ne("")),
        )
        .set(dsl::private_key_pem.eq(""))
        .execute(connection)
        .map(|changed| changed == 1)
    }

    /// Makes it sign, or stops it. Says whether that changed anything.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn set_active(
        id: RowId,
        active: bool,
        connection: &mut AnyConnection,
    ) -> QueryResult<bool> {
        diesel::update(
            dsl::jwt_auth_jwtkeypair.filter(dsl::id.eq(id)).filter(dsl::is_active.ne(active)),
        )
        .set(dsl::is_active.eq(active))
        .execute(connection)
        .map(|changed| changed == 1)
    }

    /// Deletes those of `ids` that are inactive and that no token refers to, in one statement,
    /// and returns the ids that are gone.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn delete_unused(connection: &mut AnyConnection, ids: &[RowId]) -> QueryResult<Vec<RowId>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let places: Vec<String> = (1..=ids.len()).map(|place| format!("${place}")).collect();
        let query = format!(
            "DELETE FROM jwt_auth_jwtkeypair WHERE id IN ({}) AND NOT is_active AND NOT EXISTS \
             (SELECT 1 FROM jwt_auth_jwttoken \
             WHERE jwt_auth_jwttoken.key_pair_id = jwt_auth_jwtkeypair.id) RETURNING id",
            places.join(", ")
        );
        let mut query = sql_query(query).into_boxed::<MultiBackend>();
        for id in ids {
            query = query.bind::<RowIdSql, _>(*id);
        }
        let gone: Vec<Id> = query.load(connection)?;
        Ok(gone.into_iter().map(|row| row.id).collect())
    }
}

/// Where SQLite frees a part of its file, the bytes stay there unless it is told otherwise.
/// PostgreSQL knows no such thing: there they go with the next vacuum.
fn overwrite_what_is_freed(connection: &mut AnyConnection) -> QueryResult<()> {
    if connection.is_postgres() {
        return Ok(());
    }
    connection.batch_execute("PRAGMA secure_delete = ON")
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = RowIdSql)]
    id: RowId,
}
