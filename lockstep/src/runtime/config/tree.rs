//! A parsed document in memory of its own, every key and value with its place in the text.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table: where the key stands, and the value.
pub(super) type Table = BTreeMap<String, (Range<usize>, Value)>;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Value {
    pub(super) node: Node,
    pub(super) span: Range<usize>,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    /// `None` if it does not fit.
    Integer(Option<i128>),
    Boolean(bool),
    /// A kind that no setting has.
    Other(&'static str),
    Array(Vec<Value>),
    Table(Table),
}

impl Node {
    /// The kind, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Other(kind) => kind,
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

pub(super) fn table(parsed: &DeTable<'_>) -> Table {
    let entry = |(key, item): (&Spanned<_>, &_)| {
        let key: &Spanned<std::borrow::Cow<'_, str>> = key;
        (key.get_ref().to_string(), (key.span(), value(item)))
    };
    parsed.iter().map(entry).collect()
}

fn value(parsed: &Spanned<DeValue<'_>>) -> Value {
    let node = match parsed.get_ref() {
        DeValue::String(text) => Node::Text(text.to_string()),
        DeValue::Integer(number) => {
            Node::Integer(i128::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(_) => Node::Other("a number with a fraction"),
        DeValue::Boolean(value) => Node::Boolean(*value),
        DeValue::Datetime(_) => Node::Other("a date or time"),
        DeValue::Array(items) => Node::Array(items.iter().map(value).collect()),
        DeValue::Table(inner) => Node::Table(table(inner)),
    };
    Value { node, span: parsed.span() }
}
