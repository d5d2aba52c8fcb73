//! One request, one answer.

use lockstep::client::RequestError;
use lockstep::client::blocking::Session;
use lockstep::client::session::{CallError, OpenError, Settings};
use lockstep::runtime::config::{ClientConfig, Overrides};
use lockstep::runtime::exit::Exit;

use super::args::Client;
use super::{Failure, REFUSED, print};
use crate::ops::{Answer, Op};

/// The settings in a client's file.
pub(super) fn settings(client: &Client) -> Result<Settings, Failure> {
    let config = ClientConfig::read(&client.config, &Overrides::default())
        .map_err(|error| Failure::new(Exit::Config, &error))?;
    let mut settings = Settings::new(config.pair, config.coservers, config.credentials);
    settings.open_within = client.timeout;
    Ok(settings)
}

pub(super) fn ask(client: &Client, op: &Op) -> Result<u8, Failure> {
    let session = Session::open(settings(client)?).map_err(|error| not_opened(&error))?;
    let reply = session
        .request_within(op.encode(), client.timeout)
        .map_err(|error| Failure::new(unanswered(&error), &error))?;
    let answer = Answer::decode(&reply).map_err(|error| Failure::new(Exit::Software, &error))?;
    // The answer is here; a session that cannot be closed expires.
    let _ = session.close();
    match client.json {
        true => print(&serde_json::json!({ "op": op, "answer": answer }).to_string()),
        false => print(&answer.to_string()),
    }
    Ok(match answer {
        Answer::Refused(_) | Answer::Differs(_) => REFUSED,
        _ => Exit::Done.code(),
    })
}

pub(super) fn not_opened(error: &OpenError) -> Failure {
    let exit = match error {
        // Keys, or the pair's id: what is configured here or there.
        OpenError::Refused(_) => Exit::Config,
        OpenError::Entropy(_) | OpenError::Thread(_) => Exit::System,
        OpenError::TimedOut { .. } | OpenError::Session(_) | OpenError::GivenUp => {
            Exit::Unavailable
        }
    };
    Failure::new(exit, error)
}

fn unanswered(error: &CallError) -> Exit {
    match error {
        CallError::NotSent(_) => Exit::Usage,
        CallError::NoReply(RequestError::ReadOnly) => Exit::Config,
        CallError::NoReply(_) | CallError::GivenUp => Exit::Unavailable,
    }
}
