//! What an operator changes while beats run.

use chrono::{DateTime, Utc};

use super::{BeatState, BeatStateError, SWITCH};
use crate::wire::isoformat;

/// How an operator has switched an entry; comes before its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// It is sent.
    On,
    /// It is not sent.
    Off,
}

impl Switch {
    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            _ => None,
        }
    }

    fn text(switch: Option<Self>) -> &'static str {
        match switch {
            Some(Self::On) => "on",
            Some(Self::Off) => "off",
            None => "",
        }
    }
}

impl BeatState {
    /// Switches `entry`, or lets its definition decide again. With `from`, its slots count from
    /// then on. Returns whether there is such an entry.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn switch(
        &self,
        entry: &str,
        switch: Option<Switch>,
        from: Option<DateTime<Utc>>,
    ) -> Result<bool, BeatStateError> {
        let mut call = SWITCH.prepare_invoke();
        call.key(&self.last_runs)
            .key(&self.switches)
            .key(&self.changes)
            .arg(entry)
            .arg(Switch::text(switch))
            .arg(from.map(isoformat::format).unwrap_or_default());
        Ok(self.connection.script("switching beat's entry", &call).await?)
    }

    /// Lets no beat send anything until [`BeatState::resume`]; `by` says who wants that.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn pause(&self, by: &str) -> Result<(), BeatStateError> {
        let command = redis::cmd("SET").arg(&self.paused).arg(by).take();
        Ok(self.connection.query("pausing beat", &command).await?)
    }

    /// Lets beats send again. Returns whether they were paused.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn resume(&self) -> Result<bool, BeatStateError> {
        let command = redis::cmd("DEL").arg(&self.paused).take();
        Ok(self.connection.query("resuming beat", &command).await?)
    }

    /// Who has paused sending, if anybody has.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn paused_by(&self) -> Result<Option<String>, BeatStateError> {
        let command = redis::cmd("GET").arg(&self.paused).take();
        Ok(self.connection.query("asking whether beat is paused", &command).await?)
    }

    /// Remembers when entries ran that no beat of ours has sent yet, so that they go on from
    /// there. Those that are known stay as they are.
    ///
    /// # Errors
    ///
    /// Where Redis does not answer.
    pub async fn introduce(&self, entries: &[(&str, DateTime<Utc>)]) -> Result<(), BeatStateError> {
        let mut pipeline = redis::pipe();
        for (entry, last_run) in entries {
            pipeline.hset_nx(&self.last_runs, *entry, isoformat::format(*last_run)).ignore();
        }
        Ok(self.connection.pipeline("introducing beat's entries", &pipeline).await?)
    }
}
