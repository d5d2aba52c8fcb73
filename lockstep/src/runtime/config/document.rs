//! A file as parsed: its text, where everything in it stands, and what flags put in its place.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::sync::Arc;

use toml::de::DeTable;

use super::error::{ConfigError, Fault, Position};
use super::section::Section;
use super::tree::{self, Node, Table, Value};

/// Most bytes that a configuration may have: many times what the keys of all pairs of a large
/// witness take. A longer file is not read to its end.
const FILE_MAX: u64 = 16 << 20;

/// Fields that flags replace. They come into force when a [`Document`] is made.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    fields: Vec<Override>,
}

#[derive(Debug, Clone)]
struct Override {
    path: Vec<Step>,
    flag: String,
    text: String,
}

#[derive(Debug, Clone)]
enum Step {
    Field(&'static str),
    Item(usize),
}

impl Overrides {
    /// No overrides: every field is as the file says.
    pub fn new() -> Self {
        Self::default()
    }

    /// The string `text` in place of the file's field `name`. Paths are to be absolute: what is
    /// relative in a file is relative to it.
    pub fn set(&mut self, name: &'static str, flag: impl Into<String>, text: impl Into<String>) {
        self.push(vec![Step::Field(name)], flag.into(), text.into());
    }

    /// The same for a field of one table in an array of tables, counted from 0.
    pub fn set_item(
        &mut self,
        (array, item, name): (&'static str, usize, &'static str),
        flag: impl Into<String>,
        text: impl Into<String>,
    ) {
        let path = vec![Step::Field(array), Step::Item(item), Step::Field(name)];
        self.push(path, flag.into(), text.into());
    }

    fn push(&mut self, path: Vec<Step>, flag: String, text: String) {
        self.fields.push(Override { path, flag, text });
    }
}

/// Where the values of a document come from. A position beyond the text stands for a flag.
#[derive(Debug)]
pub(super) struct Source {
    file: PathBuf,
    text: String,
    flags: Vec<String>,
}

impl Source {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The flag that gave the value here, if one did.
    pub(super) fn flag(&self, span: &Range<usize>) -> Option<&String> {
        self.flags.get(span.start.checked_sub(self.text.len() + 1)?)
    }

    pub(super) fn fault(
        &self,
        span: &Range<usize>,
        field: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        let position = match self.flag(span) {
            Some(flag) => Position::Flag(flag.clone()),
            None => self.position(span.start),
        };
        let (field, what, remedy) = (field.into(), what.into(), remedy.into());
        Box::new(Fault { file: self.file.clone(), position, field, what, remedy }).into()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn position(&self, at: usize) -> Position {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = 1 + before.matches('\n').count();
        Position::Line { line, column: 1 + before[start..].chars().count() }
    }
}

/// A configuration file, parsed and not yet checked.
#[derive(Debug)]
pub struct Document {
    root: Section,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, or an override has no place in it.
    pub fn read(file: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { file: file.into(), source };
        let mut bytes = Vec::new();
        let opened = File::open(file).map_err(failed)?;
        opened.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(ConfigError::TooLarge { file: file.into(), limit: FILE_MAX });
        }
        let text = String::from_utf8(bytes).map_err(|error| not_text(file, &error))?;
        Self::parse(file, text, overrides)
    }

    /// Takes a text as if it stood in `file`.
    ///
    /// # Errors
    /// Fails as [`read`](Self::read) does.
    pub fn parse(file: &Path, text: String, overrides: &Overrides) -> Result<Self, ConfigError> {
        let flags = overrides.fields.iter().map(|field| field.flag.clone()).collect();
        let parsed = DeTable::parse(&text).map(|table| tree::table(table.get_ref()));
        let source = Arc::new(Source { file: file.into(), text, flags });
        let mut table = parsed.map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            source.fault(&span, "", error.message(), "correct it as TOML wants it")
        })?;
        for (number, field) in overrides.fields.iter().enumerate() {
            let start = source.text.len() + 1 + number;
            put(&mut table, &field.path, &field.text, start..start).ok_or_else(|| {
                let what = "there is no such table in the file";
                source.fault(&(start..start), "", what, "add it to the file, or leave the flag out")
            })?;
        }
        Ok(Self { root: Section::root(source, table) })
    }

    /// The file's outermost table.
    pub fn into_root(self) -> Section {
        self.root
    }
}

/// At the first byte that is no part of a text.
fn not_text(file: &Path, error: &FromUtf8Error) -> ConfigError {
    let end = error.utf8_error().valid_up_to();
    let bytes = error.as_bytes();
    let (good, bad) = (&bytes[..end], bytes.get(end).copied().unwrap_or_default());
    let text = String::from_utf8_lossy(good).into_owned();
    let source = Source { file: file.into(), text, flags: Vec::new() };
    let what = format!("the file is not UTF-8: there is the byte 0x{bad:02x}");
    source.fault(&(end..end), "", what, "save it as UTF-8, or check that it is the right file")
}

/// Puts a string where the path says; `None` if a table on the way is not there.
fn put(table: &mut Table, path: &[Step], text: &str, span: Range<usize>) -> Option<()> {
    match path {
        [Step::Field(name)] => {
            let value = Value { node: Node::Text(text.into()), span: span.clone() };
            table.insert((*name).into(), (span, value));
            Some(())
        }
        [Step::Field(array), Step::Item(item), rest @ ..] => {
            let Node::Array(items) = &mut table.get_mut(*array)?.1.node else { return None };
            let Node::Table(inner) = &mut items.get_mut(*item)?.node else { return None };
            put(inner, rest, text, span)
        }
        _ => None,
    }
}
