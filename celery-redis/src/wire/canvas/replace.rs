//! Putting a canvas in the place of a running task (`Task.replace`).

use serde_json::{Value, json};

use super::compose::accumulate;
use super::freeze::Freeze;
use super::{Canvas, CanvasError, Dispatch, elements};
use crate::wire::signature::Options;

/// What a running task passes on to whatever replaces it.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Its id, which the replacement's result keeps.
    pub id: String,
    /// First task of the workflow.
    pub root_id: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Its place in the group.
    pub group_index: Option<i64>,
    /// The body of the chord that it is a part of.
    pub chord: Option<Value>,
    /// What is called when it succeeds.
    pub callbacks: Vec<Value>,
    /// What is called when it fails.
    pub errbacks: Vec<Value>,
    /// What follows it, the next last.
    pub chain: Vec<Value>,
    /// How often it was replaced already.
    pub replaced_task_nesting: u64,
}

/// A canvas that takes a task's place.
#[derive(Debug, Clone)]
pub struct Replacement(pub Canvas);

impl Dispatch<'_> {
    /// Starts `replacement` in the place of `origin`: same id, same group and chord, and then
    /// whatever was to follow.
    pub fn replace(
        &mut self,
        replacement: Replacement,
        origin: &Origin,
    ) -> Result<(), CanvasError> {
        let mut canvas = replacement.0;
        if canvas.options().contains_key("chord") {
            return Err(CanvasError::Refused(
                "A signature replacing a task must not be part of a chord",
            ));
        }
        if canvas.is_empty_chain() {
            return Err(CanvasError::Refused("Cannot replace with an empty chain"));
        }
        // A group becomes a chord, so that there is a task to link to.
        if matches!(canvas, Canvas::Group(_)) {
            canvas = canvas.then(accumulate());
        }
        if let Canvas::Chain(chain) = &mut canvas
            && let Some(group) = chain.tasks.pop_if(|last| matches!(last, Canvas::Group(_)))
        {
            chain.tasks.push(group.then(accumulate()));
        }
        for callback in &origin.callbacks {
            canvas.link(callback.clone());
        }
        for errback in &origin.errbacks {
            canvas.link_error(errback);
        }
        if let Canvas::Chain(chain) = &mut canvas {
            let links = elements(&chain.options, "link");
            chain.options.shift_remove("link");
            if let Some(last) = chain.tasks.last_mut()
                && !links.is_empty()
            {
                let mut all = elements(last.options(), "link");
                all.extend(links);
                last.options_mut().insert("link".to_owned(), all.into());
            }
        }
        self.freeze(&mut canvas, &Freeze { id: Some(&origin.id), ..Freeze::default() });
        let nesting = origin.replaced_task_nesting + 1;
        canvas.options_mut().extend([
            ("chord".to_owned(), json!(origin.chord)),
            ("group_id".to_owned(), json!(origin.group)),
            ("group_index".to_owned(), json!(origin.group_index)),
            ("root_id".to_owned(), json!(origin.root_id)),
            ("replaced_task_nesting".to_owned(), nesting.into()),
        ]);
        let nested = |canvas: Canvas| canvas.option("replaced_task_nesting", nesting);
        if let Canvas::Chain(chain) = &mut canvas {
            chain.tasks = std::mem::take(&mut chain.tasks).into_iter().map(nested).collect();
        }
        for next in origin.chain.iter().rev() {
            canvas = canvas.then(nested(Canvas::from_json(next)?));
        }
        self.apply(canvas, &[], &Options::new())?;
        Ok(())
    }
}
