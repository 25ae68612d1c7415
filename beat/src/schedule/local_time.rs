//! From the time that a clock on the wall shows to the instant that it means.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The instant of a local time.
///
/// A time that a clock shows twice means the first of the two. A time that it never shows, because
/// it is put forward over it, is as long after the change as it would have been after the hour
/// before: 02:30 becomes 03:30. Both as Celery decides.
pub(crate) fn instant_of(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(instant) => instant.to_utc(),
        LocalResult::Ambiguous(first, second) => first.min(second).to_utc(),
        LocalResult::None => (local - offset_before_gap(local, zone)).and_utc(),
    }
}

/// The second of the two instants of a local time that is shown twice.
pub(crate) fn repeated_instant_of(local: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Ambiguous(first, second) => Some(first.max(second).to_utc()),
        LocalResult::Single(_) | LocalResult::None => None,
    }
}

/// The instant between `after` and `until`, to the second, at which the clock is put back.
pub(crate) fn put_back_between(
    after: DateTime<Utc>,
    until: DateTime<Utc>,
    zone: Tz,
) -> Option<DateTime<Utc>> {
    let offset = |instant: DateTime<Utc>| {
        zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()
    };
    let (mut before, mut behind) = (after, until);
    if offset(before) <= offset(behind) {
        return None;
    }
    while behind - before > TimeDelta::seconds(1) {
        let middle = before + (behind - before) / 2;
        if offset(middle) > offset(behind) {
            before = middle;
        } else {
            behind = middle;
        }
    }
    // Clocks are changed at whole seconds.
    Some(behind.trunc_subsecs(0))
}

fn offset_before_gap(local: NaiveDateTime, zone: Tz) -> TimeDelta {
    let step = TimeDelta::minutes(15);
    let mut before = local - step;
    loop {
        if let Some(found) = zone.from_local_datetime(&before).latest() {
            return TimeDelta::seconds(found.offset().fix().local_minus_utc().into());
        }
        before -= step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str, zone: Tz) -> String {
        instant_of(text.parse().unwrap(), zone).format("%d %H:%M").to_string()
    }

    #[test]
    fn a_time_in_a_gap_moves_behind_it() {
        assert_eq!(instant("2026-03-08T02:30:00", Tz::America__New_York), "08 07:30");
        // Samoa went without 30 December 2011.
        assert_eq!(instant("2011-12-30T12:00:00", Tz::Pacific__Apia), "30 22:00");
    }

    #[test]
    fn a_time_shown_twice_is_the_first() {
        assert_eq!(instant("2026-11-01T01:30:00", Tz::America__New_York), "01 05:30");
        assert_eq!(
            repeated_instant_of("2026-11-01T01:30:00".parse().unwrap(), Tz::America__New_York),
            Some("2026-11-01T06:30:00Z".parse().unwrap())
        );
    }
}
