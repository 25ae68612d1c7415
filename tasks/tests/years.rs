//! Years of a site under every setting, with workers that race and die: what a rotation promises.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod site;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::thread;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use shared_models::{KeyPair, RowId};
use site::crash::{self, killed_after};
use site::{Backend, Site, start};
use tasks::cleanup_expired_tokens::clean_up;
use tasks::cleanup_inactive_keypairs::delete_inactive;
use tasks::jwt::jwks;
use tasks::rotate_jwt_keypairs::{Older, RotationReport, Trigger};
use tasks::{Caller, Mode, RetiredPrivateKeys};

on_both!(every_promise_of_a_rotation_holds_for_years);

/// A rotation may be this much early; see the documentation of operating.
const EARLY: TimeDelta = TimeDelta::hours(1);

/// What a site has decided.
#[derive(Debug, Clone)]
struct Decisions {
    max_active: u32,
    period_days: i64,
    token_hours: i64,
    every_days: i64,
    wipe: bool,
}

/// What happens around one scheduled run.
#[derive(Debug, Clone)]
struct Run {
    /// Seconds by which the run begins late.
    late: i64,
    /// How many workers do it at the same time.
    workers: usize,
    /// After how many events the first worker dies.
    dies_after: Option<u32>,
    /// Whether somebody forces a rotation before the next run, and how.
    forced: Option<Older>,
    /// After how many times 55 minutes tokens are issued.
    issued_after: Vec<i64>,
}

fn decisions() -> impl Strategy<Value = Decisions> {
    let every = prop_oneof![Just(1_i64), Just(7)];
    (1..=5_u32, 1..=90_i64, 1..=168_i64, every, any::<bool>()).prop_map(
        |(max_active, period_days, token_hours, every_days, wipe)| Decisions {
            max_active,
            period_days,
            token_hours,
            every_days,
            wipe,
        },
    )
}

fn runs(count: usize) -> impl Strategy<Value = Vec<Run>> {
    let workers = prop_oneof![6 => Just(1_usize), 1 => Just(2), 1 => Just(8)];
    let dies = prop_oneof![4 => Just(None), 1 => (0..90_u32).prop_map(Some)];
    let forced = prop_oneof![
        12 => Just(None),
        2 => Just(Some(Older::Keep)),
        1 => Just(Some(Older::RetireNow)),
    ];
    let issued = prop::collection::vec(0..24_i64, 0..3);
    let run = (0..120_i64, workers, dies, forced, issued).prop_map(
        |(late, workers, dies_after, forced, issued_after)| Run {
            late,
            workers,
            dies_after,
            forced,
            issued_after,
        },
    );
    prop::collection::vec(run, count..=count)
}

/// A token that somebody holds.
#[derive(Debug, Clone)]
struct Held {
    key_pair: RowId,
    expires_at: DateTime<Utc>,
    /// Tokens may exist without a row.
    has_row: bool,
}

/// What the site's people would have written down.
struct Ledger {
    /// When each key pair was made: never to change.
    created_at: HashMap<RowId, DateTime<Utc>>,
    /// Since when the newest signs.
    signs_since: Option<DateTime<Utc>>,
    /// When each one's last token was, or could have been, signed.
    superseded_at: HashMap<RowId, DateTime<Utc>>,
    held: Vec<Held>,
    number: u32,
}

struct Years<'a> {
    site: &'a Site,
    decisions: &'a Decisions,
    ledger: Ledger,
}

fn every_promise_of_a_rotation_holds_for_years(backend: Backend) {
    crash::install();
    // Years of weekly runs; daily ones are as many, and so fewer months.
    let (cases, count) = match backend {
        Backend::Sqlite => (16, 130),
        Backend::Postgres => (6, 130),
    };
    let mut runner = TestRunner::new(ProptestConfig { cases, ..ProptestConfig::default() });
    runner
        .run(&(decisions(), runs(count)), |(decisions, runs)| {
            let site = Site::with(backend, |settings| {
                settings.max_active = decisions.max_active;
                settings.rotation_period = TimeDelta::days(decisions.period_days);
                settings.max_token_life = TimeDelta::hours(decisions.token_hours);
                settings.key_pair_retention = TimeDelta::days(30);
                if decisions.wipe {
                    settings.retired_private_keys = RetiredPrivateKeys::Wipe;
                }
            });
            let ledger = Ledger {
                created_at: HashMap::new(),
                signs_since: None,
                superseded_at: HashMap::new(),
                held: Vec::new(),
                number: 0,
            };
            let mut years = Years { site: &site, decisions: &decisions, ledger };
            let mut now = start();
            for run in &runs {
                years.live_through(now, run)?;
                now += TimeDelta::days(decisions.every_days);
            }
            Ok(())
        })
        .unwrap();
}

impl Years<'_> {
    fn live_through(&mut self, now: DateTime<Utc>, run: &Run) -> TestCaseResult {
        self.scheduled(now + TimeDelta::seconds(run.late), run)?;
        for hours in &run.issued_after {
            self.issue(now + TimeDelta::minutes(30 + 55 * hours));
        }
        // All of it before the next run, which may be a day later: what is cleaned up has expired then.
        if let Some(older) = run.forced {
            self.forced(now + TimeDelta::hours(22), older, run)?;
        }
        self.clean_up(now + TimeDelta::hours(23))
    }

    /// The weekly or daily task, sent once and done by several workers, of which one may die.
    fn scheduled(&mut self, now: DateTime<Utc>, run: &Run) -> TestCaseResult {
        let due = self
            .ledger
            .signs_since
            .is_none_or(|since| now - since + EARLY >= TimeDelta::days(self.decisions.period_days));
        let before = self.site.key_pairs();
        let reports = self.at_once(now, Trigger::IfDue, Older::Keep, run, "scheduled");
        let performed = reports.iter().filter(|one| one.action == "rotation_performed").count();
        let made = self.made_since(&before);
        prop_assert_eq!(made, usize::from(due), "rotations of a period: {:?}", reports);
        prop_assert!(performed <= made, "{:?}", reports);
        self.look(now, &before, Older::Keep, &reports)
    }

    fn forced(&mut self, now: DateTime<Utc>, older: Older, run: &Run) -> TestCaseResult {
        let before = self.site.key_pairs();
        self.ledger.number += 1;
        let id = format!("forced {}", self.ledger.number);
        let reports = self.at_once(now, Trigger::Forced, older, run, &id);
        prop_assert_eq!(self.made_since(&before), 1, "one task, one rotation: {:?}", reports);
        self.look(now, &before, older, &reports)
    }

    /// Delivers one message to each worker; one that dies has it delivered again.
    fn at_once(
        &self,
        now: DateTime<Utc>,
        trigger: Trigger,
        older: Older,
        run: &Run,
        id: &str,
    ) -> Vec<RotationReport> {
        let site = self.site;
        let call = || site.call(now, trigger, older, Caller::Task(id));
        let first = || match run.dies_after {
            Some(events) => killed_after(events, call).unwrap_or_else(|| {
                assert!(
                    self.ledger.signs_since.is_none() || !site.active_ids().is_empty(),
                    "a dead worker left the site without a key pair"
                );
                call()
            }),
            None => call(),
        };
        thread::scope(|scope| {
            let others: Vec<_> = (1..run.workers).map(|_| scope.spawn(call)).collect();
            let first = first();
            let others = others.into_iter().map(|other| other.join().unwrap());
            std::iter::once(first).chain(others).collect()
        })
    }

    fn made_since(&self, before: &[KeyPair]) -> usize {
        let now = self.site.key_pairs();
        now.iter().filter(|pair| !before.iter().any(|other| other.id == pair.id)).count()
    }

    /// What has to be true after a rotation.
    fn look(
        &mut self,
        now: DateTime<Utc>,
        before: &[KeyPair],
        older: Older,
        reports: &[RotationReport],
    ) -> TestCaseResult {
        let after = self.site.key_pairs();
        let active: Vec<&KeyPair> = after.iter().filter(|pair| pair.is_active).collect();
        prop_assert!(!active.is_empty(), "no key pair is active");
        let signing_before = before.iter().find(|pair| pair.is_active);
        let signing = active[0];
        if signing_before.is_none_or(|one| one.id != signing.id) {
            self.ledger.signs_since = Some(now);
            if let Some(one) = signing_before {
                self.ledger.superseded_at.insert(one.id, now);
            }
        }
        for pair in &after {
            let made = pair.created_at.into();
            let known = *self.ledger.created_at.entry(pair.id).or_insert(made);
            prop_assert_eq!(known, made, "created_at was changed");
        }
        let retired = before
            .iter()
            .any(|pair| pair.is_active && !active.iter().any(|other| other.id == pair.id));
        let full = active.len() >= self.decisions.max_active as usize;
        prop_assert!(!retired || full || older == Older::RetireNow, "fewer than the maximum");
        self.look_at_the_maximum(now, &active, reports)?;
        self.look_at_tokens(now, &after, older, reports)
    }

    /// More than the maximum only as long as each of the older ones is needed.
    fn look_at_the_maximum(
        &self,
        now: DateTime<Utc>,
        active: &[&KeyPair],
        reports: &[RotationReport],
    ) -> TestCaseResult {
        let exceeded = active.len() > self.decisions.max_active as usize;
        prop_assert!(!exceeded || self.decisions.max_active > 1, "a maximum of one wins");
        if exceeded {
            prop_assert!(reports.iter().any(|one| one.cap_exceeded), "and nobody says so");
            for pair in &active[1..] {
                let superseded = self.ledger.superseded_at[&pair.id];
                let life = TimeDelta::hours(self.decisions.token_hours);
                let held = self.ledger.held.iter().filter(|token| token.key_pair == pair.id);
                let needed = superseded + life >= now
                    || held.clone().any(|token| token.has_row && token.expires_at > now);
                prop_assert!(needed, "over the maximum with one that nobody needs");
            }
        }
        Ok(())
    }

    /// No token outlives its key pair, but for a leak, and for a maximum of one, which says it.
    fn look_at_tokens(
        &mut self,
        now: DateTime<Utc>,
        after: &[KeyPair],
        older: Older,
        reports: &[RotationReport],
    ) -> TestCaseResult {
        self.ledger.held.retain(|token| token.expires_at > now);
        let lost =
            |token: &Held| !after.iter().any(|pair| pair.id == token.key_pair && pair.is_active);
        let lost_rows =
            self.ledger.held.iter().filter(|token| token.has_row && lost(token)).count();
        let lost_all = self.ledger.held.iter().filter(|token| lost(token)).count();
        if self.decisions.max_active > 1 && older == Older::Keep {
            prop_assert_eq!(lost_all, 0, "tokens whose key pair stopped verifying");
        } else if lost_rows > 0 {
            // Whoever died after it was done has told nobody; the others have found it done.
            let told: i64 = reports.iter().map(|one| one.orphaned_tokens).sum();
            let died = reports.iter().all(|one| one.orphaned_tokens == 0);
            prop_assert!(died || told == lost_rows as i64, "{} lost, {:?}", lost_rows, reports);
        }
        self.ledger.held.retain(|token| !lost(token));
        let published = jwks(&self.site.jwt, now).unwrap();
        for token in &self.ledger.held {
            let pair = after.iter().find(|pair| pair.id == token.key_pair).unwrap();
            let kid = Some(pair.name.clone());
            prop_assert!(published.keys.iter().any(|key| key.common.key_id == kid));
        }
        Ok(())
    }

    /// As a site does: with the newest active key pair, for the longest time that is allowed.
    fn issue(&mut self, now: DateTime<Utc>) {
        let signing = self.site.active_ids()[0];
        let expires_at = now + TimeDelta::hours(self.decisions.token_hours);
        self.ledger.number += 1;
        let has_row = self.ledger.number.is_multiple_of(2);
        if has_row {
            self.site.token(&format!("token {}", self.ledger.number), signing, expires_at);
        }
        self.ledger.held.push(Held { key_pair: signing, expires_at, has_row });
    }

    /// The other tasks take nothing away that is needed.
    fn clean_up(&mut self, now: DateTime<Utc>) -> TestCaseResult {
        let before = self.site.key_pairs();
        let goes_on = &mut |_| ControlFlow::Continue(());
        clean_up(&self.site.jwt, now, Mode::Apply, goes_on).unwrap();
        delete_inactive(&self.site.jwt, now, Caller::Task("monthly"), Mode::Apply).unwrap();
        let after = self.site.key_pairs();
        for token in self.ledger.held.iter().filter(|token| token.expires_at > now) {
            prop_assert!(after.iter().any(|pair| pair.id == token.key_pair), "a needed key pair");
        }
        let active = |pairs: &[KeyPair]| -> Vec<RowId> {
            pairs.iter().filter(|pair| pair.is_active).map(|pair| pair.id).collect()
        };
        prop_assert_eq!(active(&before), active(&after));
        Ok(())
    }
}
