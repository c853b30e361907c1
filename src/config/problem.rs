//! Faults of a configuration, told so that they can be mended.

use std::fmt;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Its code in the catalogue.
    pub code: &'static str,
    /// Where: `file:line:column`, a variable's name, or a key.
    pub place: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// The line of the file, and the column under which the caret stands, from 1.
    pub excerpt: Option<Excerpt>,
}

/// A line of a file and a column in it, counted from 1.
pub(super) type Excerpt = (String, usize);

impl ConfigProblem {
    /// A fault of something that has no lines, such as a variable.
    pub(super) fn plain(code: &'static str, place: impl Into<String>, message: String) -> Self {
        Self { code, place: place.into(), message, excerpt: None }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.place, self.code, self.message)?;
        if let Some((line, column)) = &self.excerpt {
            write!(f, "\n    {line}\n    {:>column$}", "^")?;
        }
        Ok(())
    }
}

/// A text and the positions in it.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// A fault at a byte of the text.
    pub(super) fn problem(&self, at: usize, code: &'static str, message: String) -> ConfigProblem {
        let (place, excerpt) = self.place(at);
        ConfigProblem { code, place, message, excerpt }
    }

    /// The place of a byte as `file:line:column`, and its line.
    pub(super) fn place(&self, at: usize) -> (String, Option<Excerpt>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |place| place + 1);
        let column = before[start..].chars().count() + 1;
        let excerpt = self.text.lines().nth(line - 1).map(|text| (text.to_owned(), column));
        (format!("{}:{line}:{column}", self.name), excerpt)
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or_default().matches('\n').count() + 1
    }
}

/// The known name that is most like an unknown one.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    scored
        .filter(|(distance, known)| *distance <= known.len().max(name.len()) / 2)
        .min()
        .map(|(_, known)| known)
}
