//! Which queue a task's calls go to (Celery's `task_routes` and `task_default_queue`).

use serde_json::Value;

use super::signature::DEFAULT_QUEUE;

/// Patterns of task names with their queues, and the queue of all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    default: String,
    routes: Vec<(String, String)>,
}

/// Why routes cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}; task routes are a JSON object from task names, or patterns such as \"mail.*\", to a queue or {{\"queue\": queue}}"
)]
pub struct InvalidRoutes(String);

impl Default for Routes {
    fn default() -> Self {
        Self { default: DEFAULT_QUEUE.to_owned(), routes: Vec::new() }
    }
}

impl Routes {
    /// Everything goes to `default`.
    pub fn to(default: impl Into<String>) -> Self {
        Self { default: default.into(), routes: Vec::new() }
    }

    /// Adds routes from JSON, the first that matches counts.
    pub fn with(mut self, json: &str) -> Result<Self, InvalidRoutes> {
        let routes: Value =
            serde_json::from_str(json).map_err(|error| InvalidRoutes(error.to_string()))?;
        let Value::Object(routes) = routes else {
            return Err(InvalidRoutes("it is no JSON object".to_owned()));
        };
        for (pattern, route) in routes {
            let queue = match &route {
                Value::String(queue) => Some(queue.as_str()),
                route => route.get("queue").and_then(Value::as_str),
            };
            let queue = queue
                .filter(|queue| !queue.is_empty())
                .ok_or_else(|| InvalidRoutes(format!("{pattern:?} has no queue")))?;
            self.routes.push((pattern, queue.to_owned()));
        }
        Ok(self)
    }

    /// The queue of `task`'s calls.
    pub fn queue(&self, task: &str) -> &str {
        self.routes
            .iter()
            .find(|(pattern, _)| matches(pattern.as_bytes(), task.as_bytes()))
            .map_or(&self.default, |(_, queue)| queue)
    }
}

/// `*` is any text, `?` any character.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, text)
                || text.split_first().is_some_and(|(_, text)| matches(pattern, text))
        }
        (Some((b'?', pattern)), Some((_, text))) => matches(pattern, text),
        (Some((wanted, pattern)), Some((found, text))) => wanted == found && matches(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_matches_counts() {
        let json = r#"{"mail.*": "mails", "feed.import": {"queue": "feeds"}, "*.slow": "slow"}"#;
        let routes = Routes::to("normal").with(json).unwrap();
        for (task, queue) in [
            ("mail.send", "mails"),
            ("mail.slow", "mails"),
            ("feed.import", "feeds"),
            ("feed.import.all", "normal"),
            ("feed.slow", "slow"),
        ] {
            assert_eq!(routes.queue(task), queue, "{task}");
        }
    }

    #[test]
    fn what_is_no_route_is_named() {
        for (json, complaint) in [
            ("[]", "it is no JSON object"),
            (r#"{"a": {}}"#, "\"a\" has no queue"),
            (r#"{"a": ""}"#, "\"a\" has no queue"),
        ] {
            let error = Routes::default().with(json).unwrap_err().to_string();
            assert!(error.starts_with(complaint), "{error}");
        }
    }
}
