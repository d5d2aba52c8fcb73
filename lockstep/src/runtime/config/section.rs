//! A table of a configuration, read field by field.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Document, Overrides, Source};
use super::error::ConfigError;
use super::tree::{Node, Table, Value};
use super::value::{Mismatch, Setting};

/// One table of a configuration file.
///
/// Take from it every field that it may have, then call [`finish`](Self::finish), which refuses
/// what is left. An unknown field is a field that was mistyped. Errors name the line, and say what
/// the field is for in the words of `meaning`.
///
/// ```
/// use lockstep::runtime::config::{ConfigError, Section};
///
/// fn settings(mut section: Section) -> Result<(String, u16), ConfigError> {
///     let domain = section.required("domain", "the domain that mail is taken for")?;
///     let hops = section.optional("hops", "how often a mail may be passed on")?.unwrap_or(30);
///     if hops == 0 {
///         return Err(section.fault("hops", "0 lets no mail pass", "write at least 1"));
///     }
///     section.finish()?;
///     Ok((domain, hops))
/// }
///
/// let section = Section::parse("relay.toml", "domain = \"a.example\"\nhobs = 3")?;
/// let error = settings(section).map_err(|error| error.to_string());
/// let expected = "relay.toml:2:1: `hobs`: there is no such field";
/// assert!(error.is_err_and(|error| error.starts_with(expected)));
/// # Ok::<(), lockstep::runtime::config::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Section {
    source: Arc<Source>,
    /// How to get here: names of tables, and positions in arrays.
    path: Vec<String>,
    /// The table's own header.
    span: Range<usize>,
    left: Table,
    /// The fields taken, or looked for, and where they stand if they are there.
    known: BTreeMap<&'static str, Option<Range<usize>>>,
}

impl Section {
    pub(super) fn root(source: Arc<Source>, table: Table) -> Self {
        Self { source, path: Vec::new(), span: 0..0, left: table, known: BTreeMap::new() }
    }

    /// A text taken as a whole table in `file`; for tests and for defaults.
    ///
    /// # Errors
    /// If it is no TOML.
    pub fn parse(file: impl AsRef<Path>, text: &str) -> Result<Self, ConfigError> {
        let document = Document::parse(file.as_ref(), text.into(), &Overrides::new())?;
        Ok(document.into_root())
    }

    /// The file it is in.
    pub fn file(&self) -> &Path {
        self.source.file()
    }

    /// Takes a field that has to be there.
    ///
    /// # Errors
    /// If it is not, or cannot be read.
    pub fn required<T: Setting>(
        &mut self,
        name: &'static str,
        meaning: &str,
    ) -> Result<T, ConfigError> {
        self.optional(name, meaning)?.ok_or_else(|| self.missing(name, meaning, &T::form()))
    }

    /// Takes a field that may be there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn optional<T: Setting>(
        &mut self,
        name: &'static str,
        meaning: &str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        T::read(&value).map(Some).map_err(|Mismatch(what)| {
            let remedy = format!("write {} ({meaning})", T::form());
            self.source.fault(&value.span, self.name_of(name), what, remedy)
        })
    }

    /// Takes a path that has to be there. A relative path starts at the file's directory.
    ///
    /// # Errors
    /// If it is not there, or empty, or no string.
    pub fn path(&mut self, name: &'static str, meaning: &str) -> Result<PathBuf, ConfigError> {
        let text: String = self.required(name, meaning)?;
        self.located(name, meaning, text)
    }

    /// Takes a path that may be there.
    ///
    /// # Errors
    /// If it is empty, or no string.
    pub fn optional_path(
        &mut self,
        name: &'static str,
        meaning: &str,
    ) -> Result<Option<PathBuf>, ConfigError> {
        let Some(text) = self.optional::<String>(name, meaning)? else { return Ok(None) };
        self.located(name, meaning, text).map(Some)
    }

    fn located(
        &self,
        name: &'static str,
        meaning: &str,
        text: String,
    ) -> Result<PathBuf, ConfigError> {
        if text.is_empty() || text.contains('\0') {
            return Err(self.fault(name, "is no path", format!("write {meaning}")));
        }
        Ok(self.file().parent().unwrap_or(Path::new("")).join(text))
    }

    /// Takes a table; one that is not there is empty.
    ///
    /// # Errors
    /// If it is something else.
    pub fn section(&mut self, name: &'static str) -> Result<Section, ConfigError> {
        let (span, table) = match self.take(name) {
            None => (self.span.clone(), Table::new()),
            Some(Value { node: Node::Table(table), span }) => (span, table),
            Some(value) => return Err(self.not_a_table(name, &value)),
        };
        Ok(self.inner(vec![name.into()], span, table))
    }

    /// Whether the field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Whether the field is there, and a table.
    pub fn is_table(&self, name: &str) -> bool {
        self.left.get(name).is_some_and(|(_, value)| matches!(value.node, Node::Table(_)))
    }

    /// Takes an array of tables, as in `[[links]]`; one that is not there is empty.
    ///
    /// # Errors
    /// If it is something else.
    pub fn sections(&mut self, name: &'static str) -> Result<Vec<Section>, ConfigError> {
        let items = self.items(name).map_err(|value| self.not_a_table(name, &value))?;
        let section = |(at, value): (usize, Value)| match value.node {
            Node::Table(table) => {
                Ok(self.inner(vec![name.into(), at.to_string()], value.span, table))
            }
            _ => Err(self.not_a_table(name, &value)),
        };
        items.into_iter().enumerate().map(section).collect()
    }

    /// Takes an array of tables. A value in it that is no table stands for a table with that one
    /// field, and anything else stands for an array of one. An array that is not there is empty.
    pub(super) fn sections_or_values(&mut self, name: &'static str, field: &str) -> Vec<Section> {
        let items = self.items(name).unwrap_or_else(|value| vec![value]);
        let section = |(at, Value { node, span }): (usize, Value)| {
            let table = match node {
                Node::Table(table) => table,
                node => {
                    let value = Value { node, span: span.clone() };
                    Table::from([(field.to_owned(), (span.clone(), value))])
                }
            };
            self.inner(vec![name.into(), at.to_string()], span, table)
        };
        items.into_iter().enumerate().map(section).collect()
    }

    /// Takes an array; one that is not there is empty. Anything else is given back.
    fn items(&mut self, name: &'static str) -> Result<Vec<Value>, Value> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value { node: Node::Array(items), .. }) => Ok(items),
            Some(value) => Err(value),
        }
    }

    /// An error about a field's value, at its place in the file; at the table's if it is not there.
    pub fn fault(
        &self,
        name: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        let span = self.known.get(name).cloned().flatten();
        self.source.fault(&span.unwrap_or(self.span.clone()), self.name_of(name), what, remedy)
    }

    /// The file's text with this field's value replaced; `None` if the field is not in the text.
    pub(super) fn spliced(&self, name: &str, value: &str) -> Option<String> {
        let span = self.known.get(name)?.clone()?;
        let text = self.source.text();
        Some([text.get(..span.start)?, value, text.get(span.end..)?].concat())
    }

    /// Ends reading.
    ///
    /// # Errors
    /// If there is a field that was not taken.
    pub fn finish(&self) -> Result<(), ConfigError> {
        let Some((name, (span, _))) = self.left.iter().min_by_key(|(_, (span, _))| span.start)
        else {
            return Ok(());
        };
        let known: Vec<&str> = self.known.keys().copied().collect();
        let remedy = match known.is_empty() {
            true => "remove it; nothing belongs here".to_owned(),
            false => format!("remove it, or correct its name; known here: {}", known.join(", ")),
        };
        Err(self.source.fault(span, self.name_of(name), "there is no such field", remedy))
    }

    /// Reads the whole table into a serde type; one with `deny_unknown_fields`, best.
    ///
    /// # Errors
    /// What serde finds wrong, at its place in the file.
    pub fn deserialize<T: DeserializeOwned>(self) -> Result<T, ConfigError> {
        let parsed = DeTable::parse(self.source.text());
        let table = parsed.ok().and_then(|table| descend(table, &self.path));
        let table = table.unwrap_or_else(|| Spanned::new(self.span.clone(), DeTable::new()));
        T::deserialize(toml::de::Deserializer::from(table)).map_err(|error| {
            let span = error.span().unwrap_or(self.span.clone());
            let remedy = "correct it as the service's documentation says";
            self.source.fault(&span, self.path.join("."), error.message(), remedy)
        })
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        let value = self.left.remove(name).map(|(_, value)| value);
        if value.is_some() || !self.known.contains_key(name) {
            self.known.insert(name, value.as_ref().map(|value| value.span.clone()));
        }
        value
    }

    fn inner(&self, path: Vec<String>, span: Range<usize>, left: Table) -> Section {
        let path = self.path.iter().cloned().chain(path).collect();
        Section { source: Arc::clone(&self.source), path, span, left, known: BTreeMap::new() }
    }

    fn missing(&self, name: &str, meaning: &str, form: &str) -> ConfigError {
        let remedy = format!("add `{name} = ...`: {meaning}; write {form}");
        self.source.fault(&self.span, self.name_of(name), "is missing", remedy)
    }

    fn not_a_table(&self, name: &str, value: &Value) -> ConfigError {
        let what = format!("is {} instead of a table", value.node.kind());
        let remedy = format!("write it under a header of its own, `[{name}]` or `[[{name}]]`");
        self.source.fault(&value.span, self.name_of(name), what, remedy)
    }

    fn name_of(&self, name: &str) -> String {
        let mut full = self.path.join(".");
        if !full.is_empty() && !name.is_empty() {
            full.push('.');
        }
        full + name
    }
}

/// The table at this path.
fn descend<'i>(table: Spanned<DeTable<'i>>, path: &[String]) -> Option<Spanned<DeTable<'i>>> {
    let span = table.span();
    let mut value = Spanned::new(span, DeValue::Table(table.into_inner()));
    for step in path {
        value = match value.into_inner() {
            DeValue::Table(mut table) => table.remove(step.as_str())?,
            DeValue::Array(items) => items.into_iter().nth(step.parse().ok()?)?,
            _ => return None,
        };
    }
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Some(Spanned::new(span, table)),
        _ => None,
    }
}
