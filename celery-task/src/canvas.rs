//! Work-flows from within a running task: sending, replacing itself, adding to its chord.

use celery::error::TaskError;
use celery_redis::transport::operation::Operation;
use celery_redis::wire::signature::Parent;
use celery_redis::{Canvas, CanvasResult, ClientError};

use crate::context::{Raised, TaskContext};

/// Why a task could not send.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The client could not.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Only a part of a chord can add to it.
    #[error("{0} is not member of any chord")]
    NoChord(String),
}

impl TaskContext {
    /// Sends a call, chain, group or chord as a child of this task.
    pub async fn send(&self, canvas: impl Into<Canvas>) -> Result<CanvasResult, ClientError> {
        let call = self.call();
        let root_id = call.root_id.as_deref().unwrap_or(&call.id);
        let parent = Parent { id: &call.id, root_id };
        let applied = self.client().apply_as(canvas.into(), Some(parent)).await?;
        self.add_children(applied.children);
        Ok(applied.result)
    }

    /// An error that ends this task and puts `canvas` in its place: same id, and then what was to
    /// follow this task (`Task.replace`). A task returns it as its error, and does nothing more.
    pub fn replace(&self, canvas: impl Into<Canvas>) -> TaskError {
        self.raise(Raised::Replace(Box::new(canvas.into())));
        TaskError::UnexpectedError("replaced by a new task".to_owned())
    }

    /// Adds a call to the chord that this task is a part of (`Task.add_to_chord`): the body waits
    /// for it as well.
    pub async fn add_to_chord(&self, canvas: impl Into<Canvas>) -> Result<CanvasResult, SendError> {
        let call = self.call();
        let (Some(chord), Some(group_id)) = (&call.chord, &call.group) else {
            return Err(SendError::NoChord(call.task.to_string()));
        };
        let canvas = canvas
            .into()
            .option("group_id", &**group_id)
            .option("group_index", call.group_index)
            .option("chord", chord.clone())
            .option("root_id", call.root_id.as_deref());
        let extend = Operation::ExtendChord { group_id: group_id.to_string() };
        self.client().record(vec![extend]).await?;
        Ok(self.send(canvas).await?)
    }
}
