//! A steady stream of messages, some of whose results are timed.

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::redis::{RedisError, command, connect};
use crate::template::{SAMPLED, Template};
use crate::trips::{microseconds, published_id};

/// Beyond the numbers of what warmed the worker up: a result is stored once.
const FIRST: u64 = 1 << 32;
const TICK: Duration = Duration::from_millis(1);
/// A sample each so many ticks: few enough that timing them costs nothing.
const TICKS_PER_SAMPLE: u64 = 4;

/// Sends `rate` messages per second, a batch each millisecond, and times samples of their results.
///
/// A sender that falls behind does not hide it: it sends what is due, and `sent_per_second` tells.
pub(crate) fn measure(
    port: u16,
    template: &Template,
    list: &str,
    rate: u64,
    seconds: u64,
) -> Result<Value, Failure> {
    let (producer, mut pushed) = connect(port)?;
    let (mut subscriber, mut published) = connect(port)?;
    let mut buffer = Vec::new();
    let pattern = format!("celery-task-meta-{SAMPLED}-*");
    command(&mut buffer, &[b"PSUBSCRIBE", pattern.as_bytes()]);
    subscriber.write_all(&buffer).map_err(RedisError::from)?;
    published.read()?;

    let total = rate * seconds;
    let (samples, sampled) = channel();
    let (template, list) = (template.clone(), list.to_owned());
    let sending = thread::spawn(move || -> Result<f64, RedisError> {
        let began = Instant::now();
        let mut sender = Sender { producer, template, list, buffer: Vec::new() };
        let (mut sent, mut tick) = (0, 0);
        while sent < total {
            thread::sleep((TICK * tick).saturating_sub(began.elapsed()));
            let due = (rate as f64 * began.elapsed().as_secs_f64()) as u64 + 1;
            let end = total.min(due.max(sent));
            let sample = u64::from(tick).is_multiple_of(TICKS_PER_SAMPLE) && sent < end;
            let at = Instant::now();
            sender.send(sent, end, sample)?;
            if sample && samples.send((end - 1, at)).is_err() {
                break;
            }
            sent = end;
            tick += 1;
        }
        Ok(sent as f64 / began.elapsed().as_secs_f64())
    });
    let discarding = thread::spawn(move || pushed.skip(total));
    let times = await_samples(&sampled, || published_id(&mut published))?;
    let sent_per_second = sending.join().map_err(|_| Failure::Writer)??;
    discarding.join().map_err(|_| Failure::Writer)??;
    Ok(json!({ "microseconds": microseconds(&times), "sent_per_second": sent_per_second }))
}

struct Sender {
    producer: TcpStream,
    template: Template,
    list: String,
    buffer: Vec<u8>,
}

impl Sender {
    /// Pushes messages `begin` .. `end`, the last of them as a sample.
    fn send(&mut self, begin: u64, end: u64, sample: bool) -> Result<(), RedisError> {
        self.buffer.clear();
        for number in begin..end {
            if sample && number == end - 1 {
                self.template.number_sampled(number);
            } else {
                self.template.number(FIRST + number);
            }
            let message = self.template.message();
            command(&mut self.buffer, &[b"LPUSH", self.list.as_bytes(), message]);
        }
        self.producer.write_all(&self.buffer)?;
        Ok(())
    }
}

/// From each sample's sending to its result, in the order in which the results come.
fn await_samples(
    sampled: &Receiver<(u64, Instant)>,
    mut next: impl FnMut() -> Result<Vec<u8>, RedisError>,
) -> Result<Vec<Duration>, RedisError> {
    let mut begun = HashMap::new();
    let mut ended: HashMap<u64, Instant> = HashMap::new();
    let mut times = Vec::new();
    // One result is read for each sample that was sent; which one it is, its id says.
    while let Ok((number, at)) = sampled.recv() {
        begun.insert(number, at);
        let id = next()?;
        ended.insert(number_of(&id)?, Instant::now());
    }
    for (number, end) in ended {
        if let Some(begin) = begun.get(&number) {
            times.push(end.saturating_duration_since(*begin));
        }
    }
    Ok(times)
}

fn number_of(id: &[u8]) -> Result<u64, RedisError> {
    let unexpected = || RedisError::Unexpected(String::from_utf8_lossy(id).into_owned());
    let digits = id.get(24..).and_then(|digits| std::str::from_utf8(digits).ok());
    u64::from_str_radix(digits.ok_or_else(unexpected)?, 16).map_err(|_| unexpected())
}
