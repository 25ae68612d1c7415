//! What to do with a request, decided without doing it (`celery.worker.strategy`).

use celery_redis::wire::exception::Exception;
use celery_redis::wire::message::Message;
use celery_task::TaskOptions;
use chrono::{DateTime, Utc};

/// The decision.
#[derive(Debug, PartialEq)]
pub(crate) enum Admission {
    /// Now.
    Run,
    /// Not before its eta.
    Defer { until: DateTime<Utc> },
    /// Later, as a retry after this error: the process that had it is gone.
    Retry(Exception),
    /// Never: too late.
    Expired,
    /// Never: somebody revoked it.
    Revoked,
    /// Never: it asks for something that this worker does not do.
    Refuse(Exception),
}

/// Decides on a message as of `now`; `revoked` says whether its id was.
pub(crate) fn admit(
    message: &Message,
    options: &TaskOptions,
    revoked: bool,
    now: DateTime<Utc>,
) -> Admission {
    if revoked {
        return Admission::Revoked;
    }
    if message.headers.deliveries > 0 {
        match (options.retry_on_worker_lost, options.reject_on_worker_lost) {
            (Some(true), _) => return Admission::Retry(worker_lost()),
            (_, Some(false)) => return Admission::Refuse(worker_lost()),
            _ => {}
        }
    }
    if message.headers.expires.is_some_and(|expires| expires <= now) {
        return Admission::Expired;
    }
    match message.headers.eta.filter(|eta| *eta > now) {
        Some(until) => Admission::Defer { until },
        None => Admission::Run,
    }
}

fn worker_lost() -> Exception {
    Exception::new(
        "WorkerLostError",
        "billiard.exceptions",
        vec!["Worker exited prematurely: the process that had the message is gone.".into()],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use celery_redis::wire::body::Body;
    use celery_redis::wire::message::Headers;
    use chrono::TimeDelta;

    fn message(headers: Headers) -> Message {
        Message {
            task: "t.add".into(),
            id: "1".into(),
            headers,
            body: Body::default(),
            reply_to: None,
            priority: 0,
        }
    }

    #[test]
    fn a_message_runs_from_its_eta_until_it_expires() {
        let now = Utc::now();
        let second = TimeDelta::seconds(1);
        for (eta, expires, expected) in [
            (None, None, Admission::Run),
            (Some(now), None, Admission::Run),
            (Some(now + second), None, Admission::Defer { until: now + second }),
            (None, Some(now + second), Admission::Run),
            (None, Some(now), Admission::Expired),
            (Some(now + second), Some(now - second), Admission::Expired),
        ] {
            let message = message(Headers { eta, expires, ..Headers::default() });
            assert_eq!(admit(&message, &TaskOptions::default(), false, now), expected);
        }
    }

    #[test]
    fn a_message_of_a_dead_process_runs_again_unless_its_task_is_not_to() {
        let lost = message(Headers { deliveries: 1, ..Headers::default() });
        for (reject_on_worker_lost, retry_on_worker_lost, expected) in [
            (None, None, Admission::Run),
            (Some(true), Some(false), Admission::Run),
            (Some(false), None, Admission::Refuse(worker_lost())),
            (None, Some(true), Admission::Retry(worker_lost())),
            (Some(false), Some(true), Admission::Retry(worker_lost())),
        ] {
            let options = TaskOptions {
                reject_on_worker_lost,
                retry_on_worker_lost,
                ..TaskOptions::default()
            };
            assert_eq!(admit(&lost, &options, false, Utc::now()), expected);
        }
    }
}
