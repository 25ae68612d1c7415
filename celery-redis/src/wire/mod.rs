//! Celery's message protocol as values: nothing here knows Redis, sockets or time.

pub mod body;
pub mod call_record;
pub mod canvas;
pub mod control;
pub mod envelope;
pub mod event;
pub mod exception;
pub mod isoformat;
pub mod message;
pub mod python_json;
pub mod python_repr;
pub mod raw_map;
pub mod result;
pub mod retry;
pub mod routes;
pub mod signature;
mod task_message;
