//! Numbers and texts in bytes: little-endian, lengths in front, checked on the way back.

use std::fmt;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end too early.
    #[error("it ends too early")]
    Short,
    /// There are more than there should be.
    #[error("{0} bytes too many")]
    Long(usize),
    /// A text is not UTF-8.
    #[error("a text in it is not UTF-8")]
    Text,
    /// A mark has no meaning.
    #[error("{0} has no meaning there")]
    Tag(u8),
}

/// Lays values out as bytes, one after the other.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A writer without any bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Adds a number, as eight bytes in little-endian order.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a number with a sign, as eight bytes in little-endian order.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A number that may be absent.
    pub fn option(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).i64(value),
        }
    }

    /// A text of up to 65,535 bytes; what is longer is cut off, and refused by the reader.
    pub fn text(&mut self, text: &str) -> &mut Self {
        let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_le_bytes());
        self.raw(&text.as_bytes()[..usize::from(len)])
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes; begins anew.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Reads back what a [`Writer`] laid out.
#[derive(Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader that begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes this many bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Takes this many bytes, as an array.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.raw(N)?.try_into().map_err(|_| Malformed::Short)
    }

    /// A byte.
    ///
    /// # Errors
    /// If there is none.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    /// A number.
    ///
    /// # Errors
    /// If it is not all there.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number with a sign.
    ///
    /// # Errors
    /// If it is not all there.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    /// A number that may be absent.
    ///
    /// # Errors
    /// If it is not all there.
    pub fn option(&mut self) -> Result<Option<i64>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.i64().map(Some),
            tag => Err(Malformed::Tag(tag)),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// If it is not all there, or not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = u16::from_le_bytes(self.array()?);
        str::from_utf8(self.raw(usize::from(len))?).map_err(|_| Malformed::Text)
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// If something is.
    pub fn end(self) -> Result<(), Malformed> {
        match self.0.len() {
            0 => Ok(()),
            len => Err(Malformed::Long(len)),
        }
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({} left)", self.0.len())
    }
}
