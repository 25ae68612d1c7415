//! The protocol keeps its promises in every state that can be reached within the limits.

use protocol_model::{Limits, Protocol, checker};

fn keeps_its_promises(limits: Limits, at_least: usize) {
    let report = checker::check(&Protocol { limits, mutation: None });

    assert!(report.counterexample.is_none(), "{:?}", report.counterexample);
    // Fewer would mean that the exploration has lost steps.
    assert!(report.states >= at_least, "only {} states", report.states);
}

#[test]
fn through_any_two_faults_around_one_message() {
    let limits = Limits { messages: 1, faults: 2, detours: 0, reapers: 2, with_kombu: true };
    keeps_its_promises(limits, 950_000);
}

#[test]
fn through_any_fault_while_one_of_two_messages_is_deferred_requeued_or_retried() {
    let limits = Limits { messages: 2, faults: 1, detours: 1, reapers: 1, with_kombu: false };
    keeps_its_promises(limits, 450_000);
}

#[test]
fn through_any_fault_between_two_messages_two_reapers_and_a_kombu_client() {
    let limits = Limits { messages: 2, faults: 1, detours: 0, reapers: 2, with_kombu: true };
    keeps_its_promises(limits, 600_000);
}
