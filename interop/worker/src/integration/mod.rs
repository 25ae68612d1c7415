//! The tasks that Celery's own integration suite calls (`./dev conformance`): each does what its
//! Python twin in `t/integration/tasks.py` of Celery's source package does.

mod arithmetic;
mod durations;
mod failures;
mod python_value;
mod redis_keys;
mod requests;

use celery_task::Registry;

/// Where the exceptions of the suite live.
const MODULE: &str = "t.integration.tasks";

/// Knows them all.
pub(crate) fn register(registry: &mut Registry) {
    registry
        .register::<arithmetic::identity>()
        .register::<arithmetic::add>()
        .register::<arithmetic::mul>()
        .register::<arithmetic::add_not_typed>()
        .register::<arithmetic::add_ignore_result>()
        .register::<arithmetic::add_with_result>()
        .register::<arithmetic::tsum>()
        .register::<arithmetic::xsum>()
        .register::<arithmetic::add_pydantic>()
        .register::<arithmetic::add_pydantic_string_annotations>()
        .register::<redis_keys::redis_echo>()
        .register::<redis_keys::redis_echo_group_id>()
        .register::<redis_keys::redis_count>()
        .register::<redis_keys::sum_and_record>()
        .register_blocking::<redis_keys::write_to_file_and_return_int>()
        .register::<failures::raise_error>()
        .register::<failures::fail>()
        .register::<failures::fail_unpickleable>()
        .register::<failures::return_exception>()
        .register::<failures::errback_old_style>()
        .register::<failures::errback_new_style>()
        .register::<failures::errback_old_style_with_args>()
        .register::<failures::errback_new_style_with_args>()
        .register::<durations::sleeping>()
        .register::<durations::delayed_sum>()
        .register::<durations::print_unicode>()
        .register::<requests::ids>()
        .register::<requests::collect_ids>()
        .register::<requests::ping>();
}
