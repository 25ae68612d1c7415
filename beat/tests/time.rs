//! Ten simulated years, and every kind of change of the clocks.

// What tests call is as much a test as they are.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use beat::agenda::Agenda;
use beat::built_in;
use beat::entry::{Call, Entry};
use beat::schedule::Schedule;
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn date(instant: DateTime<Utc>, zone: Tz) -> NaiveDate {
    instant.with_timezone(&zone).date_naive()
}

/// Every slot that is sent until `end`, by a beat that wakes when its agenda says.
fn simulated(
    entries: &[Entry],
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> HashMap<String, Vec<DateTime<Utc>>> {
    let entries: Arc<[Entry]> = entries.into();
    let cursors = vec![Some(start); entries.len()];
    let mut agenda = Agenda::new(Arc::clone(&entries), cursors);
    let mut sent: HashMap<String, Vec<_>> = HashMap::new();
    while let Some(now) = agenda.next().filter(|next| *next <= end) {
        for run in &agenda.due(now, 100) {
            assert_eq!(run.slots, [now], "on time, one slot");
            assert_eq!(run.missed, None);
            sent.entry(entries[run.entry].name.clone()).or_default().extend(&run.slots);
            agenda.settle(run);
        }
    }
    sent
}

#[test]
fn in_ten_years_each_built_in_entry_runs_exactly_as_often_as_the_calendar_says() {
    let (start, end) = (utc("2026-11-23T12:00:00Z"), utc("2036-11-23T12:00:00Z"));
    let zones = [
        Tz::UTC,
        Tz::Europe__Berlin,
        Tz::America__New_York,
        Tz::Australia__Lord_Howe,
        Tz::Asia__Kolkata,
        Tz::Pacific__Chatham,
        Tz::Africa__Casablanca,
    ];
    for zone in zones {
        let mut entries = built_in("celery").unwrap();
        for entry in &mut entries {
            entry.schedule = Schedule::parse(&entry.schedule.text(), zone).unwrap();
        }
        let sent = simulated(&entries, start, end);

        // What the calendar of the zone says: not asked of the schedule.
        let local = |time: &str, date: NaiveDate| {
            let date = date.and_time(time.parse().unwrap());
            let instant = date.and_local_timezone(zone);
            // A gap is somewhere within the day anyway.
            instant.earliest().map_or_else(|| date.and_utc(), |instant| instant.to_utc())
        };
        let days: Vec<NaiveDate> =
            (0..3_700).map(|day| date(start, zone) + TimeDelta::days(day)).collect();
        let count = |time: &str, matches: &dyn Fn(&NaiveDate) -> bool| {
            let of_day = days.iter().filter(|date| matches(date)).map(|date| local(time, *date));
            of_day.filter(|instant| *instant > start && *instant <= end).count()
        };
        let is_sunday = |date: &NaiveDate| date.weekday() == Weekday::Sun;
        let expected = [
            ("cleanup-expired-tokens", count("03:00:00", &|_| true)),
            ("health-report", count("06:00:00", &|_| true)),
            ("rotate-keypairs", count("02:00:00", &is_sunday)),
            ("initialize-scopes", count("01:30:00", &is_sunday)),
            ("cleanup-inactive-keypairs", count("04:00:00", &|date| date.day() == 1)),
        ];
        for (name, times) in expected {
            assert_eq!(sent[name].len(), times, "{name} in {zone}");
            // One for each date: neither doubled nor left out at a change of the clocks.
            let dates: Vec<_> = sent[name].iter().map(|slot| date(*slot, zone)).collect();
            assert!(dates.is_sorted_by(|a, b| a < b), "{name} in {zone}");
        }
        if zone == Tz::UTC {
            assert_eq!(sent["cleanup-expired-tokens"].len(), 3653);
            assert_eq!(sent["rotate-keypairs"].len(), 522);
            assert_eq!(sent["cleanup-inactive-keypairs"].len(), 120);
        }
    }
}

#[test]
fn every_kind_of_change_of_the_clocks_is_met() {
    // Zone, crontab, from, and the instants that follow on the clocks of the zone.
    let table: &[(Tz, &str, &str, &[&str])] = &[
        // A gap: the time that is not there comes as long after the change.
        (
            Tz::Europe__Berlin,
            "30 2 * * *",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        // An overlap: once, the first time.
        (
            Tz::Europe__Berlin,
            "30 2 * * *",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        // Every hour goes on in both.
        (
            Tz::Europe__Berlin,
            "0 * * * *",
            "2026-10-24T23:30:00Z",
            &[
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T03:00:00+01:00",
            ],
        ),
        (
            Tz::Europe__Berlin,
            "*/20 * * * *",
            "2026-03-29T00:30:00Z",
            &["2026-03-29T01:40:00+01:00", "2026-03-29T03:00:00+02:00"],
        ),
        // Half an hour, in the southern half.
        (
            Tz::Australia__Lord_Howe,
            "15 2 * * *",
            "2026-10-03T00:00:00Z",
            &["2026-10-04T02:45:00+11:00", "2026-10-05T02:15:00+11:00"],
        ),
        (
            Tz::Australia__Lord_Howe,
            "*/15 * * * *",
            "2026-04-04T14:40:00Z",
            &[
                "2026-04-05T01:45:00+11:00",
                "2026-04-05T01:30:00+10:30",
                "2026-04-05T01:45:00+10:30",
                "2026-04-05T02:00:00+10:30",
            ],
        ),
        // Offsets of a half and a quarter of an hour.
        (Tz::Asia__Kolkata, "0 0 * * *", "2026-11-23T18:29:59Z", &["2026-11-24T00:00:00+05:30"]),
        (Tz::Asia__Kathmandu, "0 0 * * *", "2026-11-23T00:00:00Z", &["2026-11-24T00:00:00+05:45"]),
        // The rules change: no more summer time in Iran, none in Mexico.
        (Tz::Asia__Tehran, "30 0 * * *", "2022-03-20T22:00:00Z", &["2022-03-22T01:30:00+04:30"]),
        (Tz::Asia__Tehran, "30 0 * * *", "2023-03-20T22:00:00Z", &["2023-03-22T00:30:00+03:30"]),
        (
            Tz::America__Mexico_City,
            "0 3 * * *",
            "2024-04-06T12:00:00Z",
            &["2024-04-07T03:00:00-06:00"],
        ),
        // Summer time ends for a month in between.
        (
            Tz::Africa__Casablanca,
            "30 2 * * *",
            "2026-02-14T12:00:00Z",
            &["2026-02-15T02:30:00+01:00", "2026-02-16T02:30:00+00:00"],
        ),
        // A midnight that is not there.
        (
            Tz::America__Havana,
            "0 0 * * *",
            "2026-03-07T12:00:00Z",
            &["2026-03-08T01:00:00-04:00", "2026-03-09T00:00:00-04:00"],
        ),
        // A day that is not there.
        (
            Tz::Pacific__Apia,
            "0 12 * * *",
            "2011-12-29T12:00:00Z",
            &[
                "2011-12-29T12:00:00-10:00",
                "2011-12-31T12:00:00+14:00",
                "2012-01-01T12:00:00+14:00",
            ],
        ),
        // Leap days, ends of months and of years.
        (
            Tz::UTC,
            "0 0 29 2 *",
            "2026-11-23T00:00:00Z",
            &["2028-02-29T00:00:00+00:00", "2032-02-29T00:00:00+00:00"],
        ),
        (Tz::UTC, "0 0 29 2 *", "2096-03-01T00:00:00Z", &["2104-02-29T00:00:00+00:00"]),
        (
            Tz::UTC,
            "59 23 31 * *",
            "2026-11-23T00:00:00Z",
            &[
                "2026-12-31T23:59:00+00:00",
                "2027-01-31T23:59:00+00:00",
                "2027-03-31T23:59:00+00:00",
            ],
        ),
        (
            Tz::Pacific__Kiritimati,
            "0 0 1 1 *",
            "2026-11-23T00:00:00Z",
            &["2027-01-01T00:00:00+14:00", "2028-01-01T00:00:00+14:00"],
        ),
    ];
    for (zone, crontab, from, expected) in table {
        let call = Call { task: "t".to_owned(), queue: "q".to_owned(), ..Call::default() };
        let entry = Entry::new("e", call, Schedule::parse(crontab, *zone).unwrap());
        let start = utc(from);
        let end: DateTime<Utc> =
            expected.last().unwrap().parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(1);

        let sent = simulated(std::slice::from_ref(&entry), start, end).remove("e");

        let sent = sent.unwrap_or_default();
        let sent: Vec<_> = sent.iter().map(|slot| slot.with_timezone(zone).to_rfc3339()).collect();
        assert_eq!(sent, *expected, "{crontab} {zone} from {from}");
        // Whoever comes late sends the last of these.
        let latest = entry.schedule.due(start, end).unwrap().with_timezone(zone).to_rfc3339();
        assert_eq!(Some(&latest), sent.last(), "{crontab} {zone} until {end}");
    }
}

#[test]
fn an_interval_knows_elapsed_time_only() {
    let call = Call { task: "t".to_owned(), queue: "q".to_owned(), ..Call::default() };
    let hourly = Schedule::parse("every 1h", Tz::Europe__Berlin).unwrap();
    let (start, end) = (utc("2026-10-24T23:10:00Z"), utc("2026-10-25T03:10:00Z"));

    let sent = simulated(&[Entry::new("e", call, hourly)], start, end).remove("e").unwrap();

    assert_eq!(sent, [1, 2, 3, 4].map(|hour| start + TimeDelta::hours(hour)));
}
