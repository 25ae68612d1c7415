//! Private Redis and PostgreSQL servers for tests.
//!
//! Every server listens on a free port of 127.0.0.1 and keeps its files in a temporary folder.
//! A small shell process, the [supervisor](supervisor), owns both: it notices the end of the test
//! process by the end of its standard input, whatever ended it, and then ends the server and
//! removes the folder.

mod postgres;
mod redis;
mod supervisor;

pub use postgres::Postgres;
pub use redis::{RedisServer, RedisServerBuilder};
