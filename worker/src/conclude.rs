//! Carrying a settlement out, and the bodies of the chords that it completes.

use std::collections::BTreeMap;
use std::time::Duration;

use celery_redis::transport::connection::TransportError;
use celery_redis::transport::delivery::{Conclusion, Settled};
use celery_redis::transport::operation::{Completed, Operation};
use celery_redis::wire::event::{Happened, TaskEvent};

use crate::aftermath::{Aftermath, Body, Errbacks};
use crate::consumer::Consumer;
use crate::events::Sendings;
use crate::settle::Lent;

/// How long to wait for another process that sends a chord's body, before its claim is looked at
/// again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

enum Step {
    Settled(Settled),
    Completes(Lent, Completed),
}

impl Step {
    fn done(lent: Lent, completed: Completed) -> Self {
        if completed.is_empty() {
            Self::Settled(Settled::Done)
        } else {
            Self::Completes(lent, completed)
        }
    }
}

impl Consumer {
    /// Stores, publishes, sends and acknowledges, in one step where broker and result backend are
    /// one Redis.
    ///
    /// A delivery whose part completes a chord is acknowledged together with the chord's body:
    /// until then the part comes back if this process dies, and completes it again.
    pub(crate) async fn conclude(
        &self,
        mut lent: Lent,
        aftermath: Aftermath,
    ) -> Result<Settled, TransportError> {
        let (mut operations, mut bodies, mut errbacks) = aftermath.into_parts();
        let settled = loop {
            let sendings = self.sendings(&operations);
            let step = self.step(lent, operations).await?;
            if !matches!(step, Step::Settled(Settled::LeaseLost)) {
                self.events.sent(sendings);
            }
            match step {
                Step::Settled(settled) => break settled,
                Step::Completes(still_lent, completed) => {
                    lent = still_lent;
                    let closing = Box::pin(self.close_chords(completed, &mut bodies));
                    let (closing, more) = closing.await?;
                    operations = closing;
                    errbacks.extend(more);
                }
            }
        };
        if settled == Settled::Done {
            Box::pin(self.run_errbacks(errbacks)).await;
        }
        Ok(settled)
    }

    /// What is to be told of the messages among `operations`, when they are sent.
    fn sendings(&self, operations: &[Operation]) -> Vec<TaskEvent> {
        if self.config.sendings == Sendings::Untold {
            return Vec::new();
        }
        let sends = operations.iter().filter_map(|operation| match operation {
            Operation::Send(message) => Happened::sent(message),
            _ => None,
        });
        sends.collect()
    }

    /// What closes the chords, or looks at them again.
    async fn close_chords(
        &self,
        completed: Completed,
        bodies: &mut BTreeMap<String, Body>,
    ) -> Result<(Vec<Operation>, Errbacks), TransportError> {
        let mut operations = Vec::new();
        let mut errbacks = Errbacks::default();
        for chord in completed.ours {
            if let Some(body) = bodies.remove(&chord.group_id) {
                let (closing, more, then) = self.close_chord(&chord, &body).await?;
                operations.extend(closing);
                bodies.extend(more);
                errbacks.extend(then);
            }
        }
        if !completed.others.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
            let parts = completed.others.iter().filter_map(|group_id| bodies.get(group_id));
            operations.extend(parts.map(|body| Operation::ReturnPart(body.part.clone())));
        }
        Ok((operations, errbacks))
    }

    async fn step(&self, lent: Lent, operations: Vec<Operation>) -> Result<Step, TransportError> {
        if self.results.is_with_broker() {
            return Ok(match lent {
                Some(delivery) => match delivery.conclude(operations).await? {
                    Conclusion::Settled(settled) => Step::Settled(settled),
                    Conclusion::Completes { delivery, chords } => {
                        Step::Completes(Some(delivery), chords)
                    }
                },
                None => Step::done(None, Box::pin(self.publisher.perform(operations)).await?),
            });
        }
        Box::pin(self.step_apart(lent, operations)).await
    }

    /// The same where results are stored elsewhere, so that two steps are needed.
    async fn step_apart(
        &self,
        lent: Lent,
        operations: Vec<Operation>,
    ) -> Result<Step, TransportError> {
        let closes =
            operations.iter().any(|operation| matches!(operation, Operation::CloseChord { .. }));
        let (sends, records): (Vec<_>, Vec<_>) = operations.into_iter().partition(|operation| {
            matches!(operation, Operation::Send(_) | Operation::Bury { .. })
        });
        if let Some(delivery) = &lent
            && !delivery.is_ours().await?
        {
            return Ok(Step::Settled(Settled::LeaseLost));
        }
        if closes {
            // Messages first: a crash here sends a body twice, the other order loses it.
            self.publisher.perform(sends).await?;
            let completed = self.results.perform(records).await?;
            return match (lent, completed.is_empty()) {
                (Some(delivery), true) => Ok(Step::Settled(delivery.ack().await?)),
                (lent, _) => Ok(Step::done(lent, completed)),
            };
        }
        // Result first: a crash here repeats the task, the other order loses its result.
        let completed = self.results.perform(records).await?;
        match lent {
            Some(delivery) if completed.is_empty() => match delivery.conclude(sends).await? {
                Conclusion::Settled(settled) => Ok(Step::Settled(settled)),
                Conclusion::Completes { delivery, chords } => {
                    Ok(Step::Completes(Some(delivery), chords))
                }
            },
            lent => {
                self.publisher.perform(sends).await?;
                Ok(Step::done(lent, completed))
            }
        }
    }
}
