//! Explores wider limits than the tests have time for:
//! `cargo run -p protocol-model --example explore -- MESSAGES FAULTS DETOURS REAPERS KOMBU`,
//! for example `2 2 0 1 0`. Ends with status 1 where a promise is broken.

#![allow(clippy::print_stdout, reason = "a report is what it is for")]

use std::process::ExitCode;

use protocol_model::{Limits, Protocol, checker};

fn main() -> ExitCode {
    let numbers: Vec<u8> =
        std::env::args().skip(1).map_while(|argument| argument.parse().ok()).collect();
    let [messages @ 1..=2, faults, detours, reapers @ 0..=2, kombu @ 0..=1] = numbers[..] else {
        println!("expected: MESSAGES (1 or 2) FAULTS DETOURS REAPERS (0 to 2) KOMBU (0 or 1)");
        return ExitCode::from(64);
    };
    let limits =
        Limits { messages, faults, detours, reapers: reapers.into(), with_kombu: kombu == 1 };
    let report = checker::check(&Protocol { limits, mutation: None });
    println!("{limits:?}: {} states, {} transitions", report.states, report.transitions);
    match report.counterexample {
        None => ExitCode::SUCCESS,
        Some(counterexample) => {
            println!("{counterexample:?}");
            ExitCode::FAILURE
        }
    }
}
