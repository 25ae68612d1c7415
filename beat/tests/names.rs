//! Beat knows tasks by their names only; this proves that the worker knows the same names.

use beat::built_in;
use celery_task::Registry;

#[test]
fn each_built_in_entry_names_a_registered_task() {
    let mut registry = Registry::new();
    tasks::register(&mut registry);

    let entries = built_in("celery").unwrap();

    for entry in &entries {
        let task = &entry.call.task;
        assert!(registry.contains(task), "{} names {task}", entry.name);
    }
    assert_eq!(registry.names().count(), entries.len(), "each task has an entry");
}
