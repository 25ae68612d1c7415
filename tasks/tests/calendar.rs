//! Months and years of runs: one rotation in each period, and never a moment without a key pair.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod site;

use std::ops::ControlFlow;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use site::{Backend, Site, day, start};
use tasks::Caller;
use tasks::Mode;
use tasks::cleanup_expired_tokens::clean_up;
use tasks::cleanup_inactive_keypairs::delete_inactive;
use tasks::jwt::jwks;
use tasks::rotate_jwt_keypairs::{Older, Trigger};

on_both!(
    sixty_weeks_of_weekly_runs_rotate_once_in_each_period,
    daily_runs_rotate_once_in_each_period,
    no_token_outlives_its_key_pair,
);

fn rotations(site: &Site, days: impl Iterator<Item = i64>) -> Vec<i64> {
    days.filter(|days| site.rotate(day(*days)).action == "rotation_performed").collect()
}

fn sixty_weeks_of_weekly_runs_rotate_once_in_each_period(backend: Backend) {
    let site = Site::new(backend);
    let days = rotations(&site, (0..60).map(|week| week * 7));
    // The first Sunday after thirty days is the thirty-fifth day.
    assert_eq!(days, (0..12).map(|period| period * 35).collect::<Vec<_>>());
    assert_eq!(site.active_ids().len(), 3);
}

fn daily_runs_rotate_once_in_each_period(backend: Backend) {
    let site = Site::new(backend);
    let days = rotations(&site, 0..400);
    assert_eq!(days, (0..14).map(|period| period * 30).collect::<Vec<_>>());
}

/// A site that issues a token of a week every day, with the newest active key pair.
fn no_token_outlives_its_key_pair(backend: Backend) {
    for (max_active, stateless) in [(2, true), (3, false)] {
        let site = Site::with(backend, |settings| {
            settings.rotation_period = TimeDelta::days(3);
            settings.max_active = max_active;
        });
        let life = site.jwt.settings.max_token_life;
        let mut issued: Vec<(String, DateTime<Utc>)> = Vec::new();
        for days in 0..60 {
            let now = day(days);
            site.rotate(now);
            let signing = &site.key_pairs()[0];
            assert!(signing.is_active);
            if !stateless {
                site.token(&format!("day {days}"), signing.id, now + life);
            }
            issued.push((signing.name.clone(), now + life));
            issued.retain(|(_, expires_at)| *expires_at > now);
            let active: Vec<String> = site
                .key_pairs()
                .into_iter()
                .filter(|pair| pair.is_active)
                .map(|pair| pair.name)
                .collect();
            for (kid, _) in &issued {
                assert!(active.contains(kid), "day {days}");
            }
        }
        assert!(site.key_pairs().len() > site.active_ids().len(), "some were retired");
    }
}

/// Something that happens to a site.
#[derive(Debug, Clone, Copy)]
enum Event {
    Rotation,
    Forced,
    RetireNow,
    Created,
    TokenCleanup,
    KeyPairCleanup,
    DeactivatedByHand,
}

fn events() -> impl Strategy<Value = Vec<(u16, Event)>> {
    let event = prop_oneof![
        6 => Just(Event::Rotation),
        2 => Just(Event::Forced),
        1 => Just(Event::RetireNow),
        1 => Just(Event::Created),
        1 => Just(Event::TokenCleanup),
        2 => Just(Event::KeyPairCleanup),
        1 => Just(Event::DeactivatedByHand),
    ];
    prop::collection::vec((0..1_500_u16, event), 1..60)
}

#[test]
fn whatever_happens_for_years_a_site_can_sign_and_verify() {
    let settings = (1..400_i64, 1..5_u32, 1..30_i64, prop::option::of(1..24_i64), events());
    let mut runner = TestRunner::new(ProptestConfig { cases: 48, ..ProptestConfig::default() });
    runner
        .run(&settings, |(period, max_active, cleanup, prepublish, events)| {
            let site = Site::with(Backend::Sqlite, |settings| {
                settings.rotation_period = TimeDelta::days(period);
                settings.max_active = max_active;
                settings.key_pair_retention = TimeDelta::days(cleanup);
                settings.prepublish = prepublish.map(TimeDelta::hours);
            });
            site.rotate(start());
            let mut now = start();
            for (number, (hours, event)) in events.into_iter().enumerate() {
                now += TimeDelta::hours(i64::from(hours));
                let before = site.key_pairs();
                let tokens_before = site.tokens();
                happen(&site, now, event);
                let after = site.key_pairs();

                let active: Vec<_> = after.iter().filter(|pair| pair.is_active).collect();
                prop_assert!(!active.is_empty(), "no key pair is active");
                let published = jwks(&site.jwt, now).unwrap();
                for pair in &active {
                    prop_assert!(
                        published
                            .keys
                            .iter()
                            .any(|key| key.common.key_id.as_ref() == Some(&pair.name))
                    );
                }
                for pair in &before {
                    let same = after.iter().find(|other| other.id == pair.id);
                    prop_assert!(same.is_none_or(|same| same.created_at == pair.created_at));
                    let alive = tokens_before.iter().any(|token| {
                        token.key_pair_id == pair.id
                            && !token.is_revoked
                            && DateTime::<Utc>::from(token.expires_at) > now
                    });
                    let kept = same.is_some_and(|same| same.is_active == pair.is_active);
                    let by_hand = matches!(event, Event::RetireNow | Event::DeactivatedByHand);
                    prop_assert!(!alive || kept || by_hand || max_active == 1 || !pair.is_active);
                    prop_assert!(!alive || same.is_some(), "a key pair with tokens is gone");
                }
                let signing = active[0].id;
                site.token(&format!("token {number}"), signing, now + TimeDelta::hours(100));
            }
            Ok(())
        })
        .unwrap();
}

fn happen(site: &Site, now: DateTime<Utc>, event: Event) {
    let caller = Caller::Operator("ada");
    match event {
        Event::Rotation => drop(site.rotate(now)),
        Event::Forced => drop(site.force(now)),
        Event::RetireNow => drop(site.call(now, Trigger::Forced, Older::RetireNow, caller)),
        Event::Created => drop(site.call(now, Trigger::Added, Older::Keep, caller)),
        Event::TokenCleanup => {
            clean_up(&site.jwt, now, Mode::Apply, &mut |_| ControlFlow::Continue(())).unwrap();
        }
        Event::KeyPairCleanup => {
            delete_inactive(&site.jwt, now, caller, Mode::Apply).unwrap();
        }
        Event::DeactivatedByHand => {
            // Whoever does that to the last one has to rotate.
            let active = site.active_ids();
            if let [.., oldest] = active[..] {
                site.execute(&format!(
                    "UPDATE jwt_auth_jwtkeypair SET is_active = false WHERE id = {oldest}"
                ));
            }
            if active.len() == 1 {
                site.rotate(now);
            }
        }
    }
}
