//! Events and messages on standard error.
//!
//! Every change of state is one event with a field `event`, its stable name, and a field of its own
//! for everything else that belongs to it. What is shown is chosen by a filter as
//! `tracing-subscriber` has it: `info`, or `warn,lockstep::runtime::link=debug`.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What is shown unless a filter is given.
pub const DEFAULT_FILTER: &str = "info";

/// The form of a line in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text, for people.
    #[default]
    Text,
    /// One JSON object for each line.
    Json,
}

/// The target of the spans that mark what a service logs and is no news; nothing is logged
/// under it.
pub(crate) const ECHO_TARGET: &str = "lockstep::echo";

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be parsed.
    #[error(
        "{0}: a filter is a level (error, warn, info, debug, trace), or a list of `module=level`"
    )]
    Filter(#[from] ParseError),
    /// Logging was set up before.
    #[error("logging was begun already; begin it once, at the start of `main`")]
    Begun,
}

/// Changes what is shown while the process runs.
pub struct Filter {
    set: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send>,
    /// What the command line says, which goes before what a file says.
    fixed: bool,
}

impl Filter {
    /// The command line says what is shown, whatever the file says.
    #[must_use]
    pub fn fixed(self, fixed: bool) -> Self {
        Self { fixed, ..self }
    }

    /// Whether what the configuration file says could be taken.
    ///
    /// # Errors
    /// Why it could not.
    pub fn check(&self, filter: Option<&str>) -> Result<(), String> {
        self.read(filter).map(drop)
    }

    /// Takes what the configuration file says.
    ///
    /// # Errors
    /// Why it cannot; then nothing is changed.
    pub fn change(&self, filter: Option<&str>) -> Result<(), String> {
        self.read(filter)?.map_or(Ok(()), |filter| (self.set)(filter))
    }

    /// `None` where the command line goes before it.
    fn read(&self, filter: Option<&str>) -> Result<Option<EnvFilter>, String> {
        if self.fixed {
            return Ok(None);
        }
        let parsed = parse(filter.unwrap_or(DEFAULT_FILTER));
        parsed.map(Some).map_err(|error| LogError::from(error).to_string())
    }
}

/// Begins logging, for the whole process.
///
/// # Errors
/// If the filter is none, or logging was begun already.
pub fn begin(filter: &str, format: LogFormat) -> Result<Filter, LogError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse(filter)?)
        .log_internal_errors(false)
        .with_writer(|| Lossy(io::stderr()));
    match format {
        LogFormat::Text => {
            let builder = builder.with_ansi(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(|_| LogError::Begun)?;
            Ok(Filter::by(move |filter| handle.reload(filter).map_err(|e| e.to_string())))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(|_| LogError::Begun)?;
            Ok(Filter::by(move |filter| handle.reload(filter).map_err(|e| e.to_string())))
        }
    }
}

/// The filter of this text. A filter that names modules (`mail_relay=debug`) leaves out no marks
/// all the same: without them what is no news would look like news.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, ParseError> {
    let marks = format!("{ECHO_TARGET}=error").parse()?;
    Ok(EnvFilter::try_new(filter)?.add_directive(marks))
}

impl Filter {
    fn by(set: impl Fn(EnvFilter) -> Result<(), String> + Send + 'static) -> Self {
        Self { set: Box::new(set), fixed: false }
    }
}

/// Drops what cannot be written. The reader of standard error may have gone. A service that must
/// not stop does not stop for that, and a failed write reported on standard error would panic.
struct Lossy<W>(W);

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(line).unwrap_or(line.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error() {
        let mut lossy = Lossy(Closed);
        assert!(lossy.write_all(b"a line\n").is_ok());
        assert!(lossy.flush().is_ok());
    }
}
