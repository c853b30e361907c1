//! Which passwords are good enough: the rules of NIST SP 800-63B-4, 3.1.1.2.
//!
//! Length counts, and being none of those that everybody tries first; which kinds of characters it has
//! does not.

use std::collections::HashSet;
use std::sync::OnceLock;

use serde_json::{Value, json};
use zxcvbn::{Score, zxcvbn};

use super::super::super::error::{ApiError, Code};
use super::secret::Password;

/// Fewest characters where a second factor is asked as well (NIST SP 800-63B-4).
const LEAST_WITH_SECOND_FACTOR: usize = 8;
/// Longest password in bytes; NIST asks for 64 characters at least.
const LONGEST: usize = 1024;
/// Shortest word of the context that is looked for in a password.
const SHORTEST_WORD: usize = 3;
/// Characters that must remain when words of the context are taken out.
const LEAST_BESIDE_WORDS: usize = 8;
/// Passwords that are tried first by whoever tries.
const COMMON: &str = include_str!("common.txt");

/// Whose password it is to be.
#[derive(Debug, Clone, Default)]
pub struct PasswordContext {
    /// What is known of the user: login, e-mail address, name. None of it may be most of a password.
    pub words: Vec<String>,
    /// Whether a second factor is asked as well at each sign-in.
    pub has_second_factor: bool,
}

impl PasswordContext {
    /// The words of a user.
    #[must_use]
    pub fn of(login: &str, email: Option<&str>, name: &str) -> Self {
        let words = [Some(login), email, Some(name)].into_iter().flatten().map(ToOwned::to_owned).collect();
        Self { words, has_second_factor: false }
    }

    /// Everything in lower case, whole and in parts, the longest first.
    fn parts(&self) -> Vec<String> {
        let mut parts: Vec<String> = vec!["eml".to_owned()];
        for word in &self.words {
            let word = word.to_lowercase();
            parts.extend(word.split(|letter: char| !letter.is_alphanumeric()).map(ToOwned::to_owned));
            parts.push(word);
        }
        parts.retain(|part| part.chars().count() >= SHORTEST_WORD);
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        parts.dedup();
        parts
    }
}

fn common() -> &'static HashSet<&'static str> {
    static LIST: OnceLock<HashSet<&'static str>> = OnceLock::new();
    LIST.get_or_init(|| COMMON.lines().filter(|line| !line.starts_with('#')).collect())
}

fn weak(why: String) -> ApiError {
    ApiError::new(Code::WeakPassword).at("/password", why)
}

/// Judges a password; `least` is the fewest characters where nothing else is asked.
pub(super) fn check(password: &Password, context: &PasswordContext, least: usize) -> Result<(), ApiError> {
    let password = password.normal();
    let least = if context.has_second_factor { least.min(LEAST_WITH_SECOND_FACTOR) } else { least };
    if password.chars().count() < least {
        return Err(weak(format!("must have at least {least} characters")));
    }
    if password.len() > LONGEST {
        return Err(weak(format!("must not be longer than {LONGEST} bytes")));
    }
    let lower = password.to_lowercase();
    if common().contains(lower.as_str()) || is_common_repeated(&lower) {
        return Err(weak("is one of those that are tried first".to_owned()));
    }
    let parts = context.parts();
    if is_mostly(&lower, &parts) {
        return Err(weak("is little more than login, e-mail address or name".to_owned()));
    }
    let inputs: Vec<&str> = parts.iter().map(String::as_str).collect();
    let judged = zxcvbn(&password, &inputs);
    if judged.score() < Score::Two {
        return Err(weak("is too easily guessed".to_owned()).with("feedback", feedback(&judged)));
    }
    Ok(())
}

/// Whether it is a common one, or less, again and again.
fn is_common_repeated(lower: &str) -> bool {
    let letters: Vec<char> = lower.chars().collect();
    (1..=letters.len() / 2).filter(|period| letters.len().is_multiple_of(*period)).any(|period| {
        let (first, rest) = letters.split_at(period);
        let repeats = rest.chunks(period).all(|chunk| chunk == first);
        repeats
            && (period < LEAST_BESIDE_WORDS || common().contains(first.iter().collect::<String>().as_str()))
    })
}

/// Whether little remains of it without words of the context.
fn is_mostly(lower: &str, parts: &[String]) -> bool {
    let mut rest = lower.to_owned();
    let mut found = false;
    for part in parts.iter().filter(|part| lower.contains(part.as_str())) {
        found = true;
        rest = rest.replace(part.as_str(), "");
    }
    found && rest.chars().filter(|letter| letter.is_alphanumeric()).count() < LEAST_BESIDE_WORDS
}

fn feedback(judged: &zxcvbn::Entropy) -> Value {
    let known = judged.feedback();
    let warning = known.and_then(zxcvbn::feedback::Feedback::warning).map(|warning| warning.to_string());
    let suggestions: Vec<String> = known
        .map(|feedback| feedback.suggestions().iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    json!({ "score": u8::from(judged.score()), "warning": warning, "suggestions": suggestions })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: usize = 15;

    fn judge(text: &str, has_second_factor: bool) -> Result<(), String> {
        let mut context = PasswordContext::of("ann.lee", Some("ann.lee@example.org"), "Annabelle Lee");
        context.has_second_factor = has_second_factor;
        check(&Password::new(text.to_owned()), &context, LEAST)
            .map_err(|error| error.problem()["errors"][0]["detail"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn length_is_what_counts() {
        for (text, alone, with_factor) in [
            ("correct horse battery", true, true),
            ("tango vacuum 8", false, true),
            ("vq7 tm", false, false),
            ("ナイチンゲールの歌が聞こえる夜", true, true),
        ] {
            assert_eq!(judge(text, false).is_ok(), alone, "{text}: {:?}", judge(text, false));
            assert_eq!(judge(text, true).is_ok(), with_factor, "{text}: {:?}", judge(text, true));
        }
        let start = "seven herons over the pond, a violet tram in the fog and nobody at home ";
        let longest = start.to_owned() + &"z".repeat(LONGEST - start.len());
        assert_eq!(longest.len(), LONGEST);
        assert_eq!(judge(&longest, false), Ok(()));
        assert!(judge(&(longest + "x"), false).is_err());
    }

    #[test]
    fn what_everybody_tries_first_is_refused_whatever_its_length() {
        for text in [
            "passwordpassword",
            "PasswordPassword",
            "123456789012345",
            "aaaaaaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabc",
            "qwertyuiopasdfghjkl",
            "correcthorsebatterystaple",
            "p@ssw0rdp@ssw0rd",
            "password12345678",
            "iloveyouiloveyou",
        ] {
            assert!(judge(text, false).is_err(), "{text}");
        }
        for text in ["password", "12345678", "qwertyuiop", "iloveyou", "trustno1", "sunshine"] {
            assert!(judge(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_made_of_what_is_known_of_its_user() {
        for text in
            ["ann.lee@example.org", "annabelle lee 2026", "annabelleannabelle", "eml eml eml eml eml 1"]
        {
            assert!(judge(text, false).is_err(), "{text}");
        }
        assert_eq!(judge("ann walks over the green bridge", false), Ok(()));
    }

    #[test]
    fn a_refusal_for_being_guessable_advises() {
        let context = PasswordContext::default();
        let refusal =
            check(&Password::new("abcdefghijklmnopqrstuvwx".to_owned()), &context, LEAST).unwrap_err();
        let problem = refusal.problem();
        assert_eq!(problem["code"], "EML-2010", "{problem}");
        assert!(
            problem["feedback"]["suggestions"].as_array().is_some_and(|list| !list.is_empty()),
            "{problem}"
        );
    }

    #[test]
    fn the_list_of_common_ones_is_in_lower_case_and_in_order_without_doubles() {
        let lines: Vec<&str> = COMMON.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.len() > 300, "only {}", lines.len());
        for line in &lines {
            assert!(
                line.chars().count() >= LEAST_WITH_SECOND_FACTOR && *line == line.to_lowercase(),
                "{line}"
            );
        }
        assert!(lines.is_sorted_by(|one, other| one < other));
    }
}
