//! The results that a canvas will have, as Celery's `AsyncResult` and `GroupResult` trees.

use serde_json::{Value, json};

/// All results of one dispatch; they refer to each other.
#[derive(Debug, Default)]
pub struct Results(Vec<Node>);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultId(usize);

#[derive(Debug)]
struct Node {
    id: String,
    parent: Option<ResultId>,
    members: Option<Vec<ResultId>>,
}

impl Results {
    pub(super) fn task(&mut self, id: impl Into<String>) -> ResultId {
        self.push(Node { id: id.into(), parent: None, members: None })
    }

    pub(super) fn group(&mut self, id: impl Into<String>, members: Vec<ResultId>) -> ResultId {
        self.push(Node { id: id.into(), parent: None, members: Some(members) })
    }

    fn push(&mut self, node: Node) -> ResultId {
        self.0.push(node);
        ResultId(self.0.len() - 1)
    }

    /// The task's or the group's id.
    pub fn id(&self, result: ResultId) -> &str {
        &self.0[result.0].id
    }

    /// The members of a group; `None` for a task.
    pub fn members(&self, result: ResultId) -> Option<&[ResultId]> {
        self.0[result.0].members.as_deref()
    }

    pub(super) fn parent(&self, result: ResultId) -> Option<ResultId> {
        self.0[result.0].parent
    }

    pub(super) fn set_parent(&mut self, result: ResultId, parent: Option<ResultId>) {
        self.0[result.0].parent = parent;
    }

    /// The first result on the way from `result` over its parents.
    pub(super) fn first(&self, mut result: ResultId) -> ResultId {
        while let Some(parent) = self.parent(result) {
            result = parent;
        }
        result
    }

    /// As Celery stores it (`AsyncResult.as_tuple`): `[[id, parent], members]`.
    pub fn as_tuple(&self, result: ResultId) -> Value {
        let node = &self.0[result.0];
        let parent = node.parent.map(|parent| self.as_tuple(parent));
        let members = node
            .members
            .as_ref()
            .map(|members| members.iter().map(|member| self.as_tuple(*member)).collect::<Vec<_>>());
        json!([[node.id, parent], members])
    }
}
