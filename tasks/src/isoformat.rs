//! Times as Python's `datetime.isoformat` writes them.

use chrono::{DateTime, Timelike, Utc};

/// `YYYY-MM-DDTHH:MM:SS[.ffffff]+00:00`; the fraction is absent where it is zero.
pub fn isoformat(at: DateTime<Utc>) -> String {
    let form = if at.nanosecond() / 1_000 == 0 {
        "%Y-%m-%dT%H:%M:%S+00:00"
    } else {
        "%Y-%m-%dT%H:%M:%S%.6f+00:00"
    };
    at.format(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_of_python() {
        let form = |text: &str| isoformat(text.parse().unwrap());
        assert_eq!(form("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05+00:00");
        assert_eq!(form("2026-01-02T03:04:05.12Z"), "2026-01-02T03:04:05.120000+00:00");
        assert_eq!(form("2026-01-02T03:04:05.000000999Z"), "2026-01-02T03:04:05+00:00");
    }
}
