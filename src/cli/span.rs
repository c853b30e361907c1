//! Spans of time on the command line: `500ms`, `60s`, `2m`.

use std::time::Duration;

/// Reads a span.
///
/// # Errors
/// A sentence for the person at the terminal.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "write it as 500ms, 60s or 2m".to_owned())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(|| "that is too long".to_owned()),
        _ => Err("write it as 500ms, 60s or 2m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(parse("7"), Ok(Duration::from_secs(7)));
        assert!(parse("2h").is_err() && parse("m").is_err());
        assert!(parse("18446744073709551615m").is_err(), "no overflow");
    }
}
