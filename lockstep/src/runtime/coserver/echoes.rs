//! Which of what a service logs is news, and which the pair has logged already or elsewhere.

use tracing::Span;
use tracing::span::EnteredSpan;

use crate::device::Standing;
use crate::ids::ReplicaId;
use crate::runtime::logging::ECHO_TARGET;

/// Why what a service logs in a step is an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    /// An entry from the disk: it was executed, and logged, before the restart.
    Replay,
    /// An entry from before this CoServer was a member.
    CatchUp,
    /// The sequencer logs it too.
    Follower,
}

impl Echo {
    /// What an entry is that is given out while the replica stands so; `before` is what entries
    /// were until now. A step that is replayed from the disk is a [`Echo::Replay`] whatever
    /// this says.
    pub(super) fn of(standing: Standing, place: ReplicaId, before: Option<Echo>) -> Option<Echo> {
        match standing {
            Standing::Serving { sequencer, .. } => (sequencer != place).then_some(Echo::Follower),
            Standing::Joining => Some(Echo::CatchUp),
            Standing::Starting | Standing::Holding | Standing::Out => before,
        }
    }

    /// Made at the highest level, so that no filter that lets a message through leaves it out.
    /// Filters that name modules know the target ([`logging`](crate::runtime::logging)).
    fn span(self) -> Span {
        match self {
            Echo::Replay => tracing::error_span!(target: ECHO_TARGET, "replay"),
            Echo::CatchUp => tracing::error_span!(target: ECHO_TARGET, "catch_up"),
            Echo::Follower => tracing::error_span!(target: ECHO_TARGET, "follower"),
        }
    }
}

/// The spans in which echoes are logged. They are made once: a step may take less than making one.
#[derive(Clone, Debug)]
pub(super) struct Echoes {
    replay: Span,
    catch_up: Span,
    follower: Span,
}

impl Echoes {
    pub(super) fn new() -> Echoes {
        let of = |echo: Echo| echo.span();
        Echoes {
            replay: of(Echo::Replay),
            catch_up: of(Echo::CatchUp),
            follower: of(Echo::Follower),
        }
    }

    /// A span that no filter wanted when it was made is asked for again: filters change.
    fn span(&self, echo: Echo) -> Span {
        let made = match echo {
            Echo::Replay => &self.replay,
            Echo::CatchUp => &self.catch_up,
            Echo::Follower => &self.follower,
        };
        if made.is_disabled() { echo.span() } else { made.clone() }
    }
}

/// How what is logged on this thread is marked at present. It stays so over all steps that are
/// alike, since entering a span takes some hundred nanoseconds, which may be more than a step.
#[derive(Default)]
pub(super) struct Marking {
    echo: Option<Echo>,
    span: Option<EnteredSpan>,
}

impl Marking {
    /// What is logged from now on is this.
    pub(super) fn switch(&mut self, echoes: &Echoes, echo: Option<Echo>) {
        if self.echo != echo {
            // The one before is left first.
            self.span = None;
            self.span = echo.map(|echo| echoes.span(echo).entered());
            self.echo = echo;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, PoisonError};

    use tracing_subscriber::EnvFilter;

    use super::*;
    use crate::ids::Epoch;
    use crate::runtime::logging::parse;

    #[expect(clippy::disallowed_types, reason = "what a test's logger writes")]
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_what_the_sequencer_executes_for_the_first_time_is_news() {
        let serving = |sequencer| Standing::Serving { epoch: Epoch(1), duplex: true, sequencer };
        let cases = [
            (serving(ReplicaId::A), None),
            (serving(ReplicaId::B), Some(Echo::Follower)),
            (Standing::Joining, Some(Echo::CatchUp)),
        ];
        for (standing, echo) in cases {
            assert_eq!(Echo::of(standing, ReplicaId::A, None), echo, "{standing:?}");
            assert_eq!(
                Echo::of(standing, ReplicaId::A, Some(Echo::Follower)),
                echo,
                "{standing:?}"
            );
        }
        for before in [None, Some(Echo::Follower)] {
            assert_eq!(Echo::of(Standing::Holding, ReplicaId::A, before), before, "it is no other");
        }
    }

    /// What a logger with this filter writes while `log` runs.
    fn logged(filter: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let logger = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_env_filter(parse(filter).unwrap())
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(logger, log);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    const MARKS: [Option<Echo>; 7] = [
        None,
        Some(Echo::Replay),
        Some(Echo::Replay),
        Some(Echo::CatchUp),
        Some(Echo::Follower),
        None,
        Some(Echo::Follower),
    ];

    fn log_each(echoes: &Echoes) {
        let mut marking = Marking::default();
        for echo in MARKS {
            marking.switch(echoes, echo);
            tracing::warn!("said");
        }
        drop(marking);
        tracing::warn!("said");
    }

    fn marks(text: &str) -> Vec<&str> {
        let named = ["replay: ", "catch_up: ", "follower: "];
        let of = |line: &str| named.into_iter().find(|name| line.contains(name));
        text.lines().map(|line| of(line).unwrap_or_default()).collect()
    }

    const EXPECTED: [&str; 8] =
        ["", "replay: ", "replay: ", "catch_up: ", "follower: ", "", "follower: ", ""];

    #[test]
    fn each_echo_is_marked_in_the_log_whatever_the_filter_and_news_are_not() {
        for filter in ["warn", "info", "lockstep=warn", "off,lockstep::runtime=trace"] {
            let text = logged(filter, || log_each(&Echoes::new()));
            assert_eq!(marks(&text), EXPECTED, "{filter}: {text}");
        }
    }

    #[test]
    fn what_was_made_while_nothing_was_logged_marks_what_is_logged_later() {
        let silent = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("off")).finish();
        let echoes = tracing::subscriber::with_default(silent, Echoes::new);
        assert!(echoes.follower.is_disabled());
        let text = logged("warn", || log_each(&echoes));
        assert_eq!(marks(&text), EXPECTED, "{text}");
    }
}
