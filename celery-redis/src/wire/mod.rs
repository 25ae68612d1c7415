//! Celery's message protocol as values: nothing here knows Redis, sockets or time.

pub mod accept;
pub mod body;
pub mod call_record;
pub mod canvas;
pub mod compression;
mod content;
pub mod control;
pub mod envelope;
pub mod event;
pub mod exception;
pub mod hello;
pub mod isoformat;
mod json_scan;
pub mod message;
mod publication;
pub mod python_json;
pub mod python_repr;
pub mod raw_map;
pub mod record;
pub mod result;
pub mod retry;
pub mod routes;
pub mod serializer;
pub mod signature;
mod task_message;
pub mod typed_json;
