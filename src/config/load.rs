//! Laying the sources of the configuration over each other. Pure: files and environment are given.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::problem::{ConfigProblem, Excerpt, Source, nearest};
use super::settings::Settings;
use super::{oidc, validate};

/// The shipped defaults; also the documentation of every key.
pub const DEFAULTS: &str = include_str!("../../config.toml");
/// What names of variables begin with.
pub const PREFIX: &str = "EML__";
/// Ending of variables that name a file with the value.
const FROM_FILE: &str = "_FILE";
/// Longest span that can be set, in milliseconds: a hundred years.
const LONGEST_MS: i64 = 100 * 365 * 86_400_000;
/// Keys of a provider section and an example of each value's type.
const PROVIDER: [(&str, Value); 9] = [
    ("kind", Value::String(String::new())),
    ("account_sid", Value::String(String::new())),
    ("auth_token", Value::String(String::new())),
    ("auth_token_next", Value::String(String::new())),
    ("public_url", Value::String(String::new())),
    ("api_base", Value::String(String::new())),
    ("calls_per_second", Value::Integer(0)),
    ("music_url", Value::String(String::new())),
    ("listen", Value::String(String::new())),
];

/// What has any number of sections with names of their own, and the keys of each.
const NAMED: [(&str, &[(&str, Value)]); 2] = [("providers", &PROVIDER), ("auth.oidc", &oidc::FIELDS)];

/// The keys of a section that has a name of its own.
fn fields_of(section: &str) -> Option<&'static [(&'static str, Value)]> {
    let (group, _) = section.rsplit_once('.')?;
    NAMED.iter().find(|(known, _)| *known == group).map(|(_, fields)| *fields)
}

/// Where settings come from, weakest first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files with their names, in order.
    pub files: Vec<(String, String)>,
    /// Variables that begin with `EML__`, with secrets already read from their files.
    pub environment: BTreeMap<String, String>,
    /// Keys and values of flags, with the flag's name.
    pub flags: Vec<(&'static str, String, String)>,
}

/// The settings and where each value comes from.
#[derive(Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Value and origin of each key.
    pub values: BTreeMap<String, (Value, String)>,
}

/// Shows the settings only: the values hold secrets.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Lays the sources over each other and checks the result.
///
/// # Errors
/// Every fault that was found.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<ConfigProblem>> {
    let mut loading = Loading::default();
    loading.defaults();
    for (name, text) in &sources.files {
        loading.file(&Source { name, text });
    }
    for (name, value) in &sources.environment {
        loading.variable(name, value);
    }
    for (flag, key, value) in &sources.flags {
        loading.set_text(key, value, flag);
    }
    loading.finish()
}

#[derive(Default)]
struct Loading {
    known: BTreeMap<String, Value>,
    values: BTreeMap<String, (Value, String)>,
    /// Where a key stands in a file, as long as no later source sets it.
    places: BTreeMap<String, (String, Option<Excerpt>)>,
    problems: Vec<ConfigProblem>,
}

impl Loading {
    fn defaults(&mut self) {
        let table: Table = toml::from_str(DEFAULTS).unwrap_or_default();
        for (section, keys) in table {
            for (key, value) in keys.as_table().cloned().unwrap_or_default() {
                let key = format!("{section}.{key}");
                self.known.insert(key.clone(), value.clone());
                self.values.insert(key, (value, "default".to_owned()));
            }
        }
    }

    fn example(&self, key: &str) -> Option<Value> {
        let named = key.rsplit_once('.').and_then(|(section, field)| Some((fields_of(section)?, field)));
        match named {
            Some((fields, field)) => {
                fields.iter().find(|(known, _)| *known == field).map(|(_, value)| value.clone())
            }
            None => self.known.get(key).cloned(),
        }
    }

    fn file(&mut self, source: &Source<'_>) {
        let table = match DeTable::parse(source.text) {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                self.problems.push(source.problem(at, "EML-0101", error.message().to_owned()));
                return;
            }
        };
        for (name, section) in table.get_ref() {
            let known = &**name.get_ref();
            if !self.sections().any(|section| section == known) {
                self.unknown_section(source, name);
                continue;
            }
            match section.get_ref().as_table() {
                None => self.not_a_section(source, known, section),
                Some(sections) if is_group(known) => self.group(source, known, sections),
                Some(keys) => self.section(source, known, keys),
            }
        }
    }

    /// Sections with names of their own.
    fn group(&mut self, source: &Source<'_>, group: &str, sections: &DeTable<'_>) {
        for (name, section) in sections {
            let path = format!("{group}.{}", name.get_ref());
            self.places.insert(path.clone(), source.place(name.span().start));
            match section.get_ref().as_table() {
                Some(keys) => self.section(source, &path, keys),
                None => self.not_a_section(source, &path, section),
            }
        }
    }

    fn not_a_section(&mut self, source: &Source<'_>, path: &str, found: &Spanned<DeValue<'_>>) {
        let message = format!("{path} must be a section, not {}", kind(&owned(found.get_ref())));
        self.problems.push(source.problem(found.span().start, "EML-0103", message));
    }

    fn sections(&self) -> impl Iterator<Item = &str> {
        self.known
            .keys()
            .filter_map(|key| key.split_once('.'))
            .map(|(section, _)| section)
            .chain(["providers"])
    }

    fn unknown_section(&mut self, source: &Source<'_>, name: &Spanned<std::borrow::Cow<'_, str>>) {
        let near = nearest(name.get_ref(), self.sections());
        let hint = near.map(|near| format!("; did you mean [{near}]?")).unwrap_or_default();
        let message = format!("\"{}\" is not a section{hint}", name.get_ref());
        self.problems.push(source.problem(name.span().start, "EML-0102", message));
    }

    fn section(&mut self, source: &Source<'_>, section: &str, keys: &DeTable<'_>) {
        for (name, value) in keys {
            let key = format!("{section}.{}", name.get_ref());
            match (self.example(&key), value.get_ref().as_table()) {
                (_, Some(sections)) if is_group(&key) => self.group(source, &key, sections),
                (None, _) if is_group(&key) => self.not_a_section(source, &key, value),
                (None, _) => self.unknown_key(source, section, name),
                (Some(example), _) => self.value(source, key, value, &example),
            }
        }
    }

    fn unknown_key(&mut self, source: &Source<'_>, section: &str, name: &Spanned<std::borrow::Cow<'_, str>>) {
        let prefix = format!("{section}.");
        let known: Vec<&str> = match fields_of(section) {
            Some(fields) => fields.iter().map(|(key, _)| *key).collect(),
            None => self.known.keys().filter_map(|key| key.strip_prefix(&prefix)).collect(),
        };
        let near = nearest(name.get_ref(), known.into_iter());
        let hint = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        let message = format!("\"{}\" is not a key of [{section}]{hint}", name.get_ref());
        self.problems.push(source.problem(name.span().start, "EML-0102", message));
    }

    fn value(&mut self, source: &Source<'_>, key: String, value: &Spanned<DeValue<'_>>, example: &Value) {
        let found = owned(value.get_ref());
        if !same_type(&found, example) {
            let message = format!("{key} must be {}, not {}", kind(example), kind(&found));
            self.problems.push(source.problem(value.span().start, "EML-0103", message));
            return;
        }
        if let Some(why) = unfit(&key, &found) {
            let message = format!("{key} {why}");
            self.problems.push(source.problem(value.span().start, "EML-0104", message));
            return;
        }
        let origin = format!("{}:{}", source.name, source.line(value.span().start));
        self.places.insert(key.clone(), source.place(value.span().start));
        self.values.insert(key, (found, origin));
    }

    fn variable(&mut self, name: &str, value: &str) {
        let Some(path) = name.strip_prefix(PREFIX) else { return };
        let key = path.to_lowercase().replace("__", ".");
        if self.example(&key).is_none() {
            let names: Vec<_> = self.names_like(&key).iter().map(|key| variable_of(key)).collect();
            let near = nearest(name, names.iter().map(String::as_str));
            let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            self.problems.push(ConfigProblem::plain("EML-0105", name, format!("names no key{hint}")));
            return;
        }
        self.set_text(&key, value, name);
    }

    /// Every key there is; keys of named sections under the name that an unknown key has.
    fn names_like(&self, key: &str) -> Vec<String> {
        let mut names: Vec<String> = self.known.keys().cloned().collect();
        for (group, fields) in NAMED {
            let rest = key.strip_prefix(group).and_then(|rest| rest.strip_prefix('.'));
            if let Some(name) = rest.and_then(|rest| rest.split('.').next()) {
                names.extend(fields.iter().map(|(field, _)| format!("{group}.{name}.{field}")));
            }
        }
        names
    }

    /// Sets a key from text, by the type it has.
    fn set_text(&mut self, key: &str, text: &str, origin: &str) {
        let Some(example) = self.example(key) else { return };
        let value = match &example {
            Value::String(_) => Some(Value::String(text.to_owned())),
            Value::Integer(_) => text.trim().parse().ok().map(Value::Integer),
            Value::Boolean(_) => text.trim().parse().ok().map(Value::Boolean),
            Value::Array(_) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Some(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
            }
            Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
        };
        let Some(value) = value else {
            let message = format!("{key} must be {}", kind(&example));
            self.problems.push(ConfigProblem::plain("EML-0103", origin, message));
            return;
        };
        if let Some(why) = unfit(key, &value) {
            self.problems.push(ConfigProblem::plain("EML-0104", origin, format!("{key} {why}")));
            return;
        }
        self.places.remove(key);
        self.values.insert(key.to_owned(), (value, origin.to_owned()));
    }

    fn finish(mut self) -> Result<Loaded, Vec<ConfigProblem>> {
        let mut root = Table::new();
        for (key, (value, _)) in &self.values {
            put(&mut root, key, value.clone());
        }
        let settings = match Settings::deserialize(Value::Table(root)) {
            Ok(settings) => settings,
            Err(error) => {
                let message = error.message().to_owned();
                self.problems.push(ConfigProblem::plain("EML-0104", "configuration", message));
                return Err(self.problems);
            }
        };
        for (key, why) in validate::faults(&settings) {
            let (place, excerpt) = self.place_of(&key);
            self.problems.push(ConfigProblem {
                code: "EML-0104",
                place,
                message: format!("{key} {why}"),
                excerpt,
            });
        }
        if self.problems.is_empty() {
            Ok(Loaded { settings, values: self.values })
        } else {
            Err(self.problems)
        }
    }
}

impl Loading {
    /// Where a key was set; a key that nobody set stands where its section begins.
    fn place_of(&self, key: &str) -> (String, Option<Excerpt>) {
        if let Some(place) = self.places.get(key) {
            return place.clone();
        }
        if let Some((_, origin)) = self.values.get(key) {
            return (origin.clone(), None);
        }
        match key.rsplit_once('.') {
            Some((section, _)) => self.place_of(section),
            None => ("default".to_owned(), None),
        }
    }
}

/// Whether a path has sections with names of their own.
fn is_group(path: &str) -> bool {
    NAMED.iter().any(|(group, _)| *group == path)
}

fn put(root: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            root.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let place = root.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(table) = place {
                put(table, rest, value);
            }
        }
    }
}

/// The variable that sets a key.
#[must_use]
pub fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// The variable whose value a `…_FILE` variable's file holds.
#[must_use]
pub(super) fn from_file(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX).and(name.strip_suffix(FROM_FILE))
}

fn owned(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => {
            let digits = integer.as_str().replace('_', "");
            // A number that is too large for any key stays too large.
            let beyond = if digits.starts_with('-') { i64::MIN } else { i64::MAX };
            Value::Integer(i64::from_str_radix(&digits, integer.radix()).unwrap_or(beyond))
        }
        DeValue::Float(float) => float.as_str().parse().map_or(Value::Float(f64::NAN), Value::Float),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| owned(item.get_ref())).collect()),
        DeValue::Table(table) => {
            let entries =
                table.iter().map(|(name, value)| (name.get_ref().to_string(), owned(value.get_ref())));
            Value::Table(entries.collect())
        }
    }
}

/// Why a whole number cannot be the value of a key: all of them are spans or counts.
fn unfit(key: &str, value: &Value) -> Option<String> {
    let number = value.as_integer()?;
    let most = if key.ends_with("_ms") { LONGEST_MS } else { i64::from(u32::MAX) };
    (!(0..=most).contains(&number)).then(|| format!("must be a whole number from 0 to {most}"))
}

fn same_type(found: &Value, example: &Value) -> bool {
    let is_list_of_text =
        |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_str));
    found.same_type(example) && (!example.is_array() || is_list_of_text(found))
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list of texts",
        Value::Table(_) => "a section",
    }
}
