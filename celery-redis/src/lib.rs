//! Celery's words on the wire and kombu's keys in Redis; knows no task.
//!
//! [`wire`] is pure: bytes in, values out. [`transport`] is the only code that names a Redis key.
//! [`Client`] is the producer's side: send a [`Signature`], await its result.

mod client;
mod clock;
mod sent_events;
pub mod transport;
pub mod wire;

pub use client::{Applied, AsyncResult, CanvasResult, Client, ClientError, GetError};
pub use clock::Clock;
pub use sent_events::SentEvents;
pub use wire::canvas::Canvas;
pub use wire::signature::Signature;
