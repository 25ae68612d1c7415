//! Points in time, as Django stores them.

use chrono::{DateTime, NaiveDateTime, SubsecRound, Timelike, Utc};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::Pg;
use diesel::query_builder::QueryId;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{HasSqlType, SqlType, Text, Timestamptz};
use diesel::sqlite::Sqlite;

use crate::connection::MultiBackend;

/// The type in SQL: `timestamptz` on PostgreSQL, text on SQLite.
#[derive(Debug, Clone, Copy, SqlType, QueryId)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185))]
#[diesel(sqlite_type(name = "Text"))]
pub struct UtcDateTimeSql;

/// A point in time in microseconds, UTC.
///
/// On SQLite it is the text that Django writes, `YYYY-MM-DD HH:MM:SS[.ffffff]`, because the
/// database compares these texts: one other form among them, and the order of time is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = UtcDateTimeSql)]
pub struct UtcDateTime(DateTime<Utc>);

impl UtcDateTime {
    fn to_sqlite(self) -> String {
        let form =
            if self.0.nanosecond() == 0 { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S%.6f" };
        self.0.format(form).to_string()
    }

    /// Reads Django's form, and the forms with an offset that imports have left.
    fn from_sqlite(text: &str) -> Result<Self, chrono::ParseError> {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
            .map(|naive| naive.and_utc())
            .or_else(|_| text.parse::<DateTime<Utc>>())
            .map(Self::from)
    }
}

impl From<DateTime<Utc>> for UtcDateTime {
    /// What is below a microsecond is dropped, as both databases do.
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.trunc_subsecs(6))
    }
}

impl From<UtcDateTime> for DateTime<Utc> {
    fn from(at: UtcDateTime) -> Self {
        at.0
    }
}

impl HasSqlType<UtcDateTimeSql> for MultiBackend {
    fn metadata(lookup: &mut Self::MetadataLookup) -> Self::TypeMetadata {
        Self::lookup_sql_type::<UtcDateTimeSql>(lookup)
    }
}

impl ToSql<UtcDateTimeSql, Pg> for UtcDateTime {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        ToSql::<Timestamptz, Pg>::to_sql(&self.0, out)
    }
}

impl ToSql<UtcDateTimeSql, Sqlite> for UtcDateTime {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.to_sqlite());
        Ok(IsNull::No)
    }
}

impl ToSql<UtcDateTimeSql, MultiBackend> for UtcDateTime {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, MultiBackend>) -> serialize::Result {
        out.set_value((UtcDateTimeSql, self));
        Ok(IsNull::No)
    }
}

impl FromSql<UtcDateTimeSql, Pg> for UtcDateTime {
    fn from_sql(bytes: <Pg as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        <DateTime<Utc> as FromSql<Timestamptz, Pg>>::from_sql(bytes).map(Self::from)
    }
}

impl FromSql<UtcDateTimeSql, Sqlite> for UtcDateTime {
    fn from_sql(bytes: <Sqlite as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<Text, Sqlite>>::from_sql(bytes)?;
        Self::from_sqlite(&text).map_err(|error| {
            format!("{text:?} is not a time as Django writes it (YYYY-MM-DD HH:MM:SS): {error}")
                .into()
        })
    }
}

impl FromSql<UtcDateTimeSql, MultiBackend> for UtcDateTime {
    fn from_sql(bytes: <MultiBackend as Backend>::RawValue<'_>) -> deserialize::Result<Self> {
        bytes.from_sql::<Self, UtcDateTimeSql>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UtcDateTime {
        text.parse::<DateTime<Utc>>().unwrap().into()
    }

    #[test]
    fn the_text_is_the_one_that_django_writes() {
        assert_eq!(at("2026-01-02T03:04:05Z").to_sqlite(), "2026-01-02 03:04:05");
        assert_eq!(at("2026-01-02T03:04:05.5Z").to_sqlite(), "2026-01-02 03:04:05.500000");
        assert_eq!(at("2026-01-02T03:04:05.000001999Z").to_sqlite(), "2026-01-02 03:04:05.000001");
        assert_eq!(at("2026-01-02T03:04:05.000000999Z").to_sqlite(), "2026-01-02 03:04:05");
    }

    #[test]
    fn what_was_written_is_read_again() {
        for text in
            ["2026-01-02 03:04:05", "2026-01-02 03:04:05.000001", "2026-12-31 23:59:59.999999"]
        {
            assert_eq!(UtcDateTime::from_sqlite(text).unwrap().to_sqlite(), text);
        }
        let with_offset = UtcDateTime::from_sqlite("2026-01-02T05:04:05+02:00").unwrap();
        assert_eq!(with_offset, at("2026-01-02T03:04:05Z"));
        assert!(UtcDateTime::from_sqlite("yesterday").is_err());
    }
}
