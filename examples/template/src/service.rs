//! The service: counters, each known by a name.

use std::collections::BTreeMap;

use lockstep::bytes::Bytes;
use lockstep::digest::Digest;
use lockstep::machine::{Context, Identity, RecordSource, RestoreError, StateMachine, Step};

/// Names are no longer than this.
const NAME_BYTES: usize = 100;

/// Everything that the service knows. All of it has to be in `freeze` and in `restore`.
#[derive(Default)]
pub struct Counters {
    // Not a `HashMap`: its order differs between the servers.
    by_name: BTreeMap<String, u64>,
}

impl Counters {
    /// Counts one more. A request that makes no sense is answered; a panic would stop both servers.
    fn count(&mut self, body: &[u8]) -> String {
        let name = str::from_utf8(body).unwrap_or_default();
        if name.is_empty() || name.len() > NAME_BYTES || name.contains(char::is_whitespace) {
            return format!("a name has 1 to {NAME_BYTES} bytes and no spaces");
        }
        let count = self.by_name.entry(name.to_owned()).or_default();
        *count += 1;
        format!("{name} {count}")
    }
}

impl StateMachine for Counters {
    /// A copy, for states of up to some megabytes. `lockstep::machine` says what to do for more.
    type Frozen = Bytes;

    fn identity(&self) -> Identity {
        Identity {
            name: env!("CARGO_PKG_NAME").into(),
            // Raise it with every change of what a step does.
            version: 1,
            configuration: Digest::ZERO,
        }
    }

    fn step(&mut self, _: &mut Context<'_>, step: Step<'_>) -> Bytes {
        match step {
            Step::Request { body, .. } => self.count(body).into(),
            _ => Bytes::new(),
        }
    }

    fn freeze(&self) -> Bytes {
        self.by_name
            .iter()
            .map(|(name, count)| format!("{name} {count}\n"))
            .collect::<String>()
            .into()
    }

    fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
        let mut text = Vec::new();
        while let Some(record) = records.record()? {
            text.extend_from_slice(&record);
        }
        let invalid = |why: String| RestoreError::Invalid { record: "counters", why };
        let text = String::from_utf8(text).map_err(|error| invalid(error.to_string()))?;
        self.by_name.clear();
        for line in text.lines() {
            let counter = line
                .split_once(' ')
                .and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
            let (name, count) = counter.ok_or_else(|| invalid(format!("`{line}`")))?;
            self.by_name.insert(name, count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep::output::Refusal;
    use lockstep::testing::{Difference, Script, Solo, check_determinism};

    use super::*;

    #[test]
    fn it_counts_by_name() -> Result<(), Refusal> {
        let mut service = Solo::new(Counters::default());
        assert_eq!(service.request(1, "apples")?, "apples 1");
        assert_eq!(service.request(2, "apples")?, "apples 2");
        assert_eq!(service.request(1, "pears")?, "pears 1");
        assert_eq!(service.request(1, "no name")?, "a name has 1 to 100 bytes and no spaces");
        Ok(())
    }

    #[test]
    fn it_is_deterministic() -> Result<(), Difference> {
        for seed in 0..4 {
            let script = Script::random(seed, 200, |dice| format!("name{}", dice.below(9)));
            check_determinism(Counters::default, &script)?;
        }
        Ok(())
    }
}
