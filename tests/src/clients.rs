//! Further clients of a pair, each with a key and a name of its own.

use std::path::{Path, PathBuf};

use lockstep::client::blocking::Session;
use lockstep::client::session::Settings;
use lockstep::runtime::keys::SecretKey;

use crate::caller::settings_in;
use crate::pair::{A, B, Pair};

/// The line of the CoServers' files that `init` wrote for the first client ends so.
pub const FIRST: &str = "name = \"client\" },\n";

/// A client beside the first, and the line that stands for it in the CoServers' files.
#[derive(Debug)]
pub struct Client {
    file: PathBuf,
    key: String,
}

impl Client {
    /// Makes its key and its file.
    ///
    /// # Panics
    /// If that fails.
    pub fn new(pair: &Pair, name: &str) -> Self {
        let secret = SecretKey::generate().expect("a key");
        let keys = pair.directory().join("keys");
        secret.save_new(&keys.join(format!("{name}.key"))).expect("it can be written");
        let text = std::fs::read_to_string(pair.directory().join("client.toml"));
        let text = text.expect("init wrote it");
        let file = pair.directory().join(format!("{name}.toml"));
        let own = text.replace("keys/client.key", &format!("keys/{name}.key"));
        std::fs::write(&file, own).expect("it can be written");
        Self { file, key: secret.public().to_string() }
    }

    /// The same, and both CoServers know it when they are started.
    pub fn known(pair: &Pair, name: &str) -> Self {
        let client = Self::new(pair, name);
        let entry = client.entry(&format!("name = \"{name}\""));
        for part in [A, B] {
            pair.change(part, FIRST, &format!("{FIRST}{entry}"));
        }
        client
    }

    /// The line for it, with these fields.
    pub fn entry(&self, fields: &str) -> String {
        format!("    {{ key = \"{}\", {fields} }},\n", self.key)
    }

    /// The client's configuration file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The client's key, as the CoServers' files name it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it needs to know.
    pub fn settings(&self) -> Settings {
        settings_in(&self.file)
    }

    /// Opens a session.
    ///
    /// # Panics
    /// If none is opened.
    pub fn open(&self, pair: &Pair) -> Session {
        Session::open(self.settings()).unwrap_or_else(|error| panic!("{error}{}", pair.logs()))
    }
}
