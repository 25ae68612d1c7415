//! The protocol needs each of its safeguards: the checker notices that one is missing.

use protocol_model::{Broken, Limits, Mutation, Protocol, checker};

/// What breaks without the safeguard, and limits that show it; with all safeguards nothing breaks
/// within wider ones (`protocol.rs`).
fn expected(mutation: Mutation) -> (Broken, Limits) {
    let limits = |messages, faults, reapers, with_kombu| Limits {
        messages,
        faults,
        detours: 0,
        reapers,
        with_kombu,
    };
    match mutation {
        Mutation::TagsUsedAgain => (Broken::AnothersRecord, limits(1, 1, 1, false)),
        Mutation::ReapTheLiving => (Broken::TakenFromTheLiving, limits(1, 0, 1, false)),
        Mutation::RenewAfterReclaimBegan => (Broken::RenewedAfterReclaim, limits(2, 1, 1, false)),
        Mutation::SettleWithoutFence => (Broken::Twice, limits(1, 1, 1, false)),
        Mutation::PopThenRecord => (Broken::Lost, limits(1, 1, 1, false)),
        Mutation::RenewWithoutScores => (Broken::TakenFromTheLiving, limits(1, 0, 0, true)),
        Mutation::ClaimWithoutLease => (Broken::Stuck, limits(1, 2, 1, false)),
        Mutation::KeepUnknownClaims | Mutation::ReturnUnknownClaimsOnce => {
            (Broken::Stuck, limits(1, 1, 1, false))
        }
        Mutation::ForgetTooEarly => (Broken::Stuck, limits(2, 1, 1, false)),
        Mutation::ReclaimWithoutFence => (Broken::Twice, limits(1, 1, 2, false)),
        Mutation::RegisterAgain => (Broken::RenewedAfterReclaim, limits(1, 2, 1, false)),
    }
}

#[test]
fn every_missing_safeguard_is_noticed() {
    for mutation in Mutation::ALL {
        let (broken, limits) = expected(mutation);
        let report = checker::check(&Protocol { limits, mutation: Some(mutation) });

        let found = report.counterexample.as_ref();
        assert_eq!(found.map(|found| found.broken), Some(broken), "{mutation:?}: {found:?}");
    }
}
