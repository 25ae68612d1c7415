//! Primary keys, whichever kind the site has.

use std::fmt;

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::query_builder::QueryId;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, HasSqlType, SqlType, Text};
use diesel::sqlite::{Sqlite, SqliteType};
use std::io::Write as _;
use uuid::Uuid;

use crate::connection::MultiBackend;

/// The type in SQL: on PostgreSQL whatever the column beside it is (an unnamed type), on SQLite an
/// integer or a text.
#[derive(Debug, Clone, Copy, SqlType, QueryId)]
#[diesel(postgres_type(oid = 0, array_oid = 0))]
#[diesel(sqlite_type(name = "Text"))]
pub struct RowIdSql;

/// A primary key or a reference to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = RowIdSql)]
pub enum RowId {
    /// `integer` on PostgreSQL.
    Int4(i32),
    /// `bigint` on PostgreSQL, `integer` on SQLite.
    Int8(i64),
    /// `uuid` on PostgreSQL, `char(32)` on SQLite, in hexadecimal without dashes.
    Uuid(Uuid),
}

impl fmt::Display for RowId {
    /// As Python's `str()` of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int4(id) => id.fmt(f),
            Self::Int8(id) => id.fmt(f),
            Self::Uuid(id) => id.hyphenated().fmt(f),
        }
    }
}

/// The numbers of PostgreSQL's own types.
mod oid {
    pub(super) const INT8: u32 = 20;
    pub(super) const INT4: u32 = 23;
    pub(super) const UUID: u32 = 2950;
}

impl HasSqlType<RowIdSql> for MultiBackend {
    fn metadata(lookup: &mut Self::MetadataLookup) -> Self::TypeMetadata {
        Self::lookup_sql_type::<RowIdSql>(lookup)
    }
}

impl ToSql<RowIdSql, Pg> for RowId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        match self {
            Self::Int4(id) => out.write_all(&id.to_be_bytes())?,
            Self::Int8(id) => out.write_all(&id.to_be_bytes())?,
            Self::Uuid(id) => out.write_all(id.as_bytes())?,
        }
        Ok(IsNull::No)
    }
}

impl ToSql<RowIdSql, Sqlite> for RowId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        // Diesel knows one type for each SQL type there. SQLite itself turns the text into a number
        // wherever it is compared with, or stored in, a column of numbers.
        out.set_value(match self {
            Self::Int4(id) => id.to_string(),
            Self::Int8(id) => id.to_string(),
            Self::Uuid(id) => id.simple().to_string(),
        });
        Ok(IsNull::No)
    }
}

impl ToSql<RowIdSql, MultiBackend> for RowId {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
        out.set_value((RowIdSql, self));
        Ok(IsNull::No)
    }
}

impl FromSql<RowIdSql, Pg> for RowId {
    fn from_sql(value: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        let bytes = value.as_bytes();
        match value.get_oid().get() {
            oid::INT4 => Ok(Self::Int4(i32::from_be_bytes(bytes.try_into()?))),
            oid::INT8 => Ok(Self::Int8(i64::from_be_bytes(bytes.try_into()?))),
            oid::UUID => Ok(Self::Uuid(Uuid::from_slice(bytes)?)),
            other => {
                Err(format!("a primary key of type {other} is neither integer nor uuid").into())
            }
        }
    }
}

impl FromSql<RowIdSql, Sqlite> for RowId {
    fn from_sql(value: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        if value.value_type() == Some(SqliteType::Text) {
            let text = <String as FromSql<Text, Sqlite>>::from_sql(value)?;
            return Ok(Self::Uuid(Uuid::parse_str(&text)?));
        }
        <i64 as FromSql<BigInt, Sqlite>>::from_sql(value).map(Self::Int8)
    }
}

impl FromSql<RowIdSql, MultiBackend> for RowId {
    fn from_sql(bytes: <MultiBackend as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        bytes.from_sql::<Self, RowIdSql>()
    }
}
