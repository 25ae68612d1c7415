//! The tasks that Celery's own integration suite calls (`./dev conformance`): each does what its
//! Python twin in `t/integration/tasks.py` of Celery's source package does.

// Callers give these arguments by name, so the names are the suite's.
#![allow(clippy::disallowed_names)]

mod arithmetic;
mod canvases;
mod durations;
mod failures;
mod python_value;
mod redis_keys;
mod refusals;
mod replacements;
mod requests;
mod retries;

use std::time::Duration;

use celery_task::{AckPolicy, Autoretry, MaxRetries, Registry, RetryBackoff, TaskOptions};

/// Where the tasks and the exceptions of the suite live.
const MODULE: &str = "t.integration.tasks";

/// Knows them all.
pub(crate) fn register(registry: &mut Registry) {
    register_plain(registry);
    register_canvas(registry);
    register_with_options(registry);
    register_of_any_arguments(registry);
}

fn register_plain(registry: &mut Registry) {
    registry
        .register::<arithmetic::identity>()
        .register::<arithmetic::add>()
        .register::<arithmetic::mul>()
        .register::<arithmetic::add_not_typed>()
        .register::<arithmetic::tsum>()
        .register::<arithmetic::xsum>()
        .register::<arithmetic::add_pydantic>()
        .register::<arithmetic::add_pydantic_string_annotations>()
        .register::<durations::sleeping>()
        .register::<durations::delayed_sum>()
        .register::<durations::delayed_sum_with_soft_guard>()
        .register::<durations::print_unicode>()
        .register::<failures::fail_unpickleable>()
        .register::<failures::return_exception>()
        .register::<failures::errback_old_style>()
        .register::<failures::errback_new_style>()
        .register::<failures::errback_old_style_with_args>()
        .register::<failures::errback_new_style_with_args>()
        .register::<redis_keys::redis_echo>()
        .register::<redis_keys::redis_echo_group_id>()
        .register::<redis_keys::redis_count>()
        .register::<redis_keys::sum_and_record>()
        .register_blocking::<redis_keys::write_to_file_and_return_int>()
        .register::<refusals::reject_without_requeue>()
        .register::<requests::ids>()
        .register::<requests::collect_ids>()
        .register::<requests::return_request_eta>()
        .register::<requests::return_properties>()
        .register::<requests::return_request_time_limits>()
        .register::<requests::ping>()
        .register::<retries::retry_unpickleable>();
}

fn register_canvas(registry: &mut Registry) {
    registry
        .register::<canvases::chain_add>()
        .register::<canvases::chord_add>()
        .register::<canvases::build_chain_inside_task>()
        .register::<canvases::rebuild_signature>()
        .register::<replacements::add_replaced>()
        .register::<replacements::add_replaced_with_chain>()
        .register::<replacements::record_replaced_task_nesting>()
        .register::<replacements::replace_with_chain_which_contains_a_group>()
        .register::<replacements::add_to_all>()
        .register::<replacements::add_to_all_to_chord>()
        .register::<replacements::add_chord_to_chord>()
        .register::<replacements::second_order_replace1>()
        .register::<replacements::second_order_replace2>()
        .register::<replacements::replace_with_stamped_task>()
        .register::<replacements::replaced_with_me>();
    for (name, outer, inner) in canvases::NESTED {
        registry.register_function(name, &[], TaskOptions::default(), move |_, _, _| async move {
            Ok(canvases::nested(outer, inner))
        });
    }
}

fn register_with_options(registry: &mut Registry) {
    let ignore_result =
        |ignore| TaskOptions { ignore_result: Some(ignore), ..TaskOptions::default() };
    let times = |soft, hard| TaskOptions {
        soft_time_limit: Some(soft),
        time_limit: Some(hard),
        ..TaskOptions::default()
    };
    registry
        .register_with::<arithmetic::add_ignore_result>(ignore_result(true))
        .register_with::<arithmetic::add_with_result>(ignore_result(false))
        .register_with::<retries::retry_once_ignore_result>(ignore_result(true))
        .register_with::<retries::retry_once_with_result>(ignore_result(false))
        .register_with::<requests::task_with_declared_time_limits>(times(45.0, 60.0))
        .register_with::<requests::soft_time_limit_must_exceed_time_limit>(times(2.0, 1.0))
        .register_with::<retries::retry_with_args_after_kwargs>(retried_once())
        .register_with::<retries::retry_with_kwargs_after_args>(retried_once())
        .register_with::<retries::retry>(TaskOptions {
            default_retry_delay: Some(Duration::from_secs(1)),
            ..TaskOptions::default()
        })
        .register_with::<retries::auto_retry_class_task>(TaskOptions {
            autoretry: Some(Autoretry::on(&["ValueError"]).backoff(RetryBackoff::default())),
            ..retried_once()
        })
        .register_with::<refusals::reject_then_succeed>(TaskOptions {
            acks: Some(AckPolicy::Late),
            ..TaskOptions::default()
        });
}

/// Those that take `*args` in Python.
fn register_of_any_arguments(registry: &mut Registry) {
    let plain = TaskOptions::default;
    registry
        .register_function("t.integration.tasks.fail", &[], plain(), failures::fail)
        .register_function("t.integration.tasks.raise_error", &[], plain(), failures::raise_error)
        .register_function(
            "t.integration.tasks.return_priority",
            &[],
            plain(),
            requests::return_priority,
        )
        .register_function(
            "t.integration.tasks.fail_replaced",
            &[],
            plain(),
            replacements::fail_replaced,
        )
        .register_function(
            "t.integration.tasks.replace_with_chain",
            &[],
            plain(),
            replacements::replace_with_chain,
        )
        .register_function(
            "t.integration.tasks.replace_with_chain_which_raises",
            &[],
            plain(),
            replacements::replace_with_chain_which_raises,
        )
        .register_function(
            "t.integration.tasks.replace_with_empty_chain",
            &[],
            plain(),
            replacements::replace_with_empty_chain,
        )
        .register_function(
            "t.integration.tasks.retry_once",
            &[],
            retried_once(),
            retries::retry_once,
        )
        .register_function(
            "t.integration.tasks.retry_once_priority",
            &[],
            retried_once(),
            retries::retry_once_priority,
        )
        .register_function(
            "t.integration.tasks.retry_once_headers",
            &[],
            retried_once(),
            retries::retry_once_headers,
        );
}

fn retried_once() -> TaskOptions {
    TaskOptions { max_retries: Some(MaxRetries::AtMost(1)), ..TaskOptions::default() }
}
