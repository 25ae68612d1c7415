//! Giving every task of a canvas its id before anything is sent (`Signature.freeze`).

use std::collections::VecDeque;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::results::ResultId;
use super::steps::Steps;
use super::{Canvas, Chain, Chord, Dispatch, Group, text};
use crate::wire::signature::Options;

/// What freezing adds to the options of the task that a canvas's result is of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Freeze<'a> {
    /// The id, unless it has one.
    pub(super) id: Option<&'a str>,
    pub(super) group_id: Option<&'a str>,
    /// The body of the chord that it is a part of.
    pub(super) chord: Option<&'a Value>,
    pub(super) root_id: Option<&'a str>,
    pub(super) parent_id: Option<&'a str>,
    pub(super) group_index: Option<i64>,
}

impl Dispatch<'_> {
    /// Gives a canvas its ids in place; its result.
    pub(super) fn freeze(&mut self, canvas: &mut Canvas, freeze: &Freeze<'_>) -> ResultId {
        match canvas {
            Canvas::Task(task) => self.freeze_task(&mut task.options, freeze),
            Canvas::Chain(chain) => self.freeze_chain(chain, freeze),
            Canvas::Group(group) => self.freeze_group(group, freeze),
            Canvas::Chord(chord) => self.freeze_chord(chord, freeze),
        }
    }

    fn freeze_task(&mut self, options: &mut Options, freeze: &Freeze<'_>) -> ResultId {
        let id = match text(options, "task_id") {
            Some(id) => id.to_owned(),
            None => {
                let id = freeze.id.map_or_else(fresh_id, ToOwned::to_owned);
                options.insert("task_id".to_owned(), id.clone().into());
                id
            }
        };
        for (name, value) in [("root_id", freeze.root_id), ("parent_id", freeze.parent_id)] {
            if let Some(value) = value {
                options.insert(name.to_owned(), value.into());
            }
        }
        if !options.contains_key("reply_to") {
            options.insert("reply_to".to_owned(), self.sending.producer.reply_to.clone().into());
        }
        if let Some(group_id) = freeze.group_id
            && !options.contains_key("group_id")
        {
            options.insert("group_id".to_owned(), group_id.into());
        }
        if let Some(chord) = freeze.chord {
            options.insert("chord".to_owned(), chord.clone());
        }
        if let Some(index) = freeze.group_index {
            options.insert("group_index".to_owned(), index.into());
        }
        self.results.task(id)
    }

    /// A chain's result is that of its last task. Its tasks stay as they have been prepared.
    fn freeze_chain(&mut self, chain: &mut Chain, freeze: &Freeze<'_>) -> ResultId {
        let tasks = std::mem::take(&mut chain.tasks);
        let steps = Steps { args: &[], kwargs: &Map::new(), link_error: &[], last: *freeze };
        let (mut prepared, results) = self.prepare_steps(tasks, &steps, super::steps::Use::Freeze);
        prepared.reverse();
        chain.tasks = prepared;
        let last = results.first().copied().unwrap_or_else(|| self.results.task(fresh_id()));
        chain.options.insert("task_id".to_owned(), self.results.id(last).into());
        last
    }

    pub(super) fn freeze_group(&mut self, group: &mut Group, freeze: &Freeze<'_>) -> ResultId {
        let id = match text(&group.options, "task_id") {
            Some(id) => id.to_owned(),
            None => fresh_id(),
        };
        let options = &mut group.options;
        options.insert("task_id".to_owned(), id.clone().into());
        if let Some(group_id) = freeze.group_id {
            options.insert("group_id".to_owned(), group_id.into());
        }
        if let Some(chord) = freeze.chord {
            options.insert("chord".to_owned(), chord.clone());
        }
        if let Some(index) = freeze.group_index {
            options.insert("group_index".to_owned(), index.into());
        }
        for (name, value) in [("root_id", freeze.root_id), ("parent_id", freeze.parent_id)] {
            options.entry(name).or_insert_with(|| value.into());
        }
        let root_id = text(options, "root_id").map(ToOwned::to_owned);
        let parent_id = text(options, "parent_id").map(ToOwned::to_owned);
        let mut members = Vec::with_capacity(group.tasks.len());
        let mut flat: Vec<Canvas> = Vec::with_capacity(group.tasks.len());
        let mut waiting = VecDeque::from(std::mem::take(&mut group.tasks));
        while let Some(mut task) = waiting.pop_front() {
            if let Canvas::Group(nested) = task {
                // A nested group's tasks come in reverse, as Celery puts them in front one by one.
                for task in nested.tasks {
                    waiting.push_front(task);
                }
                continue;
            }
            if task.is_empty_chain() {
                continue;
            }
            let freeze = Freeze {
                id: None,
                group_id: freeze.group_id,
                chord: freeze.chord,
                root_id: root_id.as_deref(),
                parent_id: parent_id.as_deref(),
                group_index: i64::try_from(flat.len()).ok(),
            };
            members.push(self.freeze(&mut task, &freeze));
            flat.push(task);
        }
        group.tasks = flat;
        self.results.group(id, members)
    }

    /// A chord's result is that of its body, whose first parent is the header's.
    ///
    /// The header's tasks get the body when they are sent: until then it would only be there twice
    /// (`_strip_chord_header_links`).
    fn freeze_chord(&mut self, chord: &mut Chord, freeze: &Freeze<'_>) -> ResultId {
        if !chord.header.options.contains_key("task_id")
            && let Some(id) = text(&chord.options, "task_id")
        {
            chord.header.options.insert("task_id".to_owned(), id.into());
        }
        let header =
            Freeze { root_id: freeze.root_id, parent_id: freeze.parent_id, ..Freeze::default() };
        let header = self.freeze_group(&mut chord.header, &header);
        chord.options.insert("task_id".to_owned(), self.results.id(header).into());
        let Some(body) = &mut chord.body else { return header };
        let body = self.freeze(body, &Freeze { parent_id: None, ..*freeze });
        let first = self.results.first(body);
        self.results.set_parent(first, Some(header));
        body
    }
}

pub(super) fn fresh_id() -> String {
    Uuid::new_v4().to_string()
}
