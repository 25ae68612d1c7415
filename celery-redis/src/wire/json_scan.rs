//! What is found out about a JSON text before it is read.

/// Whether a JSON text has an integer that 64 bits do not hold.
///
/// `serde_json` would read it as the nearest float, and the caller would not learn of it.
pub(super) fn has_too_large_integer(json: &str) -> bool {
    const ALWAYS_FITS: usize = 18;
    outside_strings(json)
        .flat_map(|text| text.split(|character: char| !is_of_number(character)))
        .filter(|number| number.len() > ALWAYS_FITS)
        .filter(|number| number.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()))
        .any(|number| number.parse::<i64>().is_err() && number.parse::<u64>().is_err())
}

/// Whether a text has one of the three words that Python writes for floats that are not finite.
pub(super) fn has_words_for_floats(json: &str) -> bool {
    outside_strings(json).any(|text| text.contains("NaN") || text.contains("Infinity"))
}

/// Upper bound of the values in a JSON text, keys of objects among them.
pub(super) fn count_values(json: &str) -> usize {
    let separators =
        |text: &str| text.bytes().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    outside_strings(json).map(separators).sum::<usize>() + 1
}

fn is_of_number(character: char) -> bool {
    matches!(character, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')
}

/// The parts of a JSON text between its strings.
fn outside_strings(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(json);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some((before, behind)) = text.split_once('"') else {
            rest = None;
            return Some(text);
        };
        rest = end_of_string(behind).map(|end| &behind[end..]);
        Some(before)
    })
}

/// Where the string ends whose inside `text` begins with, behind its quotation mark.
fn end_of_string(text: &str) -> Option<usize> {
    // Long strings are leapt over, not walked through.
    let mut from = 0;
    while let Some(at) = text[from..].find('"') {
        let at = from + at;
        let escapes = text.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 0 {
            return Some(at + 1);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_more_than_64_bits_are_found() {
        for (json, found) in [
            ("[9223372036854775807, 18446744073709551615, -9223372036854775808]", false),
            ("[1, 18446744073709551616]", true),
            (r#"{"a": -9223372036854775809}"#, true),
            (r#"["18446744073709551616", "\"18446744073709551616"]"#, false),
            (r#"["\\", 18446744073709551616]"#, true),
            (r#"["\\\", 18446744073709551616"]"#, false),
            (r#"["\"", "", "\\\"\\", 18446744073709551616]"#, true),
            ("[123456789012345678901234567890.0, 1e30, 10000000000000000000000E3]", false),
        ] {
            assert_eq!(has_too_large_integer(json), found, "{json}");
        }
    }

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (json, values) in [("1", 1), ("[1, 2, [3]]", 5), (r#"{"a": "x,y", "b": [2]}"#, 6)] {
            assert_eq!(count_values(json), values, "{json}");
        }
    }

    #[test]
    fn words_for_floats_are_found_outside_of_strings() {
        assert!(has_words_for_floats("[NaN]"));
        assert!(has_words_for_floats(r#"{"a": -Infinity}"#));
        assert!(!has_words_for_floats(r#"["NaN", "\\", "Infinity"]"#));
    }
}
