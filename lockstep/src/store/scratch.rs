//! A directory in memory that fails, or loses its power, at a chosen operation. For tests.

#![expect(clippy::disallowed_types, reason = "two handles of a test share one directory")]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::store::files::{Directory, File};

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The operation fails, without effect; the next ones succeed.
    Error(ErrorKind),
    /// Half of a write takes effect; it fails and so does everything after it.
    Crash,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// Everything survives.
    None,
    /// Nothing survives.
    All,
    /// A part survives, chosen by this seed.
    Some(u64),
}

impl Loss {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Self::None, Self::All].into_iter().chain((1..9).map(Self::Some))
    }

    /// Whether the next part survives.
    fn next(&mut self) -> bool {
        match self {
            Self::None => true,
            Self::All => false,
            Self::Some(state) => {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                *state >> 62 != 0
            }
        }
    }
}

/// Every way in which one byte of a file can be wrong, or all from one on.
pub(super) fn wrong(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let changes: [fn(&mut Vec<u8>, usize); 7] = [
        |bytes, at| bytes[at] ^= 1,
        |bytes, at| bytes[at] ^= 0x80,
        |bytes, at| bytes[at] = 0,
        |bytes, at| _ = bytes.remove(at),
        |bytes, at| bytes.insert(at, 0),
        |bytes, at| bytes.truncate(at),
        |bytes, at| bytes[at..].fill(0),
    ];
    let each = (0..bytes.len()).flat_map(move |at| changes.map(|change| (at, change)));
    let changed = each.map(|(at, change)| {
        let mut other = bytes.to_vec();
        change(&mut other, at);
        other
    });
    changed.filter(move |other| other != bytes)
}

#[derive(Clone, Default, Debug)]
struct Node {
    live: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Default, Debug)]
struct State {
    names: BTreeMap<String, u64>,
    synced: BTreeMap<String, u64>,
    nodes: BTreeMap<u64, Node>,
    next: u64,
    operations: u64,
    fault: Option<(u64, Fault)>,
}

impl State {
    /// Counts an operation; says whether it fails.
    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.fault {
            Some((at, Fault::Error(kind))) if at == self.operations => Err(kind.into()),
            Some((at, Fault::Crash)) if at <= self.operations => Err(io::Error::other("no power")),
            _ => Ok(()),
        }
    }

    fn id(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

#[derive(Clone, Default, Debug)]
pub(super) struct Scratch(Arc<Mutex<State>>);

impl Scratch {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counted from 1, from now on.
    pub(super) fn fail_at(&self, operation: u64, fault: Fault) {
        let mut state = self.state();
        (state.operations, state.fault) = (0, Some((operation, fault)));
    }

    /// How many operations there were since the fault was set.
    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether the fault has struck.
    pub(super) fn struck(&self) -> bool {
        let state = self.state();
        state.fault.is_some_and(|(at, _)| at <= state.operations)
    }

    /// The directory as it is found after the power is back.
    pub(super) fn after_crash(&self, mut loss: Loss) -> Self {
        let state = self.state().clone();
        let mut found = State { next: state.next, ..State::default() };
        let names: Vec<_> = state.names.keys().chain(state.synced.keys()).collect();
        for name in names {
            let kept = if loss.next() { &state.names } else { &state.synced };
            if let Some(id) = kept.get(name) {
                found.names.insert(name.clone(), *id);
            }
        }
        for (id, node) in &state.nodes {
            let live = survivor(node, &mut loss);
            found.nodes.insert(*id, Node { synced: live.clone(), live });
        }
        found.synced = found.names.clone();
        Self(Arc::new(Mutex::new(found)))
    }

    /// The same files, copied.
    pub(super) fn copy(&self) -> Self {
        let state = self.state().clone();
        let shift = state.next + 1000;
        let moved = |names: BTreeMap<String, u64>| {
            names.into_iter().map(|(name, id)| (name, id + shift)).collect()
        };
        let nodes = state.nodes.into_iter().map(|(id, node)| (id + shift, node)).collect();
        let next = state.next + shift;
        let (names, synced) = (moved(state.names), moved(state.synced));
        Self(Arc::new(Mutex::new(State { names, synced, nodes, next, ..State::default() })))
    }

    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.nodes[state.names.get(name)?].live.clone())
    }

    /// How much of a file is synced.
    pub(super) fn synced(&self, name: &str) -> u64 {
        let state = self.state();
        state.nodes[&state.names[name]].synced.len() as u64
    }

    /// Puts a file there, or replaces its bytes, as if it had always been so.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let id = state.id(name).unwrap_or(state.next);
        state.next = state.next.max(id + 1);
        state.nodes.insert(id, Node { live: bytes.to_vec(), synced: bytes.to_vec() });
        state.names.insert(name.to_owned(), id);
        state.synced.insert(name.to_owned(), id);
    }
}

/// Sectors of a file survive each for itself, and so does the new length.
fn survivor(node: &Node, loss: &mut Loss) -> Vec<u8> {
    const SECTOR: usize = 64;
    let len = if loss.next() { node.live.len() } else { node.synced.len() };
    let mut found = node.synced.clone();
    found.resize(len, 0);
    for at in (0..len.min(node.live.len())).step_by(SECTOR) {
        let end = (at + SECTOR).min(len).min(node.live.len());
        if loss.next() {
            found[at..end].copy_from_slice(&node.live[at..end]);
        }
    }
    found
}

impl Directory for Scratch {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.operation()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        state.operation()?;
        Ok(Box::new(Handle { dir: self.clone(), id: state.id(name)? }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        state.operation()?;
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = state.next;
        state.next += 1;
        state.names.insert(name.to_owned(), id);
        state.nodes.insert(id, Node::default());
        Ok(Box::new(Handle { dir: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let id = state.id(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.id(name)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.synced = state.names.clone();
        Ok(())
    }

    fn mark(&self, name: &str) -> io::Result<Option<u64>> {
        let mut state = self.state();
        state.operation()?;
        state.id(name).map(Some)
    }

    fn share(&self) -> Box<dyn Directory> {
        Box::new(self.clone())
    }
}

struct Handle {
    dir: Scratch,
    id: u64,
}

impl Handle {
    fn with<T>(&self, act: impl FnOnce(&mut Node) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.dir.state();
        state.operation()?;
        act(state.nodes.get_mut(&self.id).unwrap())
    }
}

impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        self.with(|node| Ok(node.live.len() as u64))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|node| {
            let start = usize::try_from(offset).unwrap();
            let range = start..start + buffer.len();
            let bytes = node.live.get(range).ok_or(ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.dir.state();
        let done = state.operation();
        let crashed = matches!(state.fault, Some((at, Fault::Crash)) if at == state.operations);
        let len = match &done {
            Ok(()) => bytes.len(),
            Err(_) if crashed => bytes.len() / 2,
            Err(_) => 0,
        };
        let start = usize::try_from(offset).unwrap();
        let live = &mut state.nodes.get_mut(&self.id).unwrap().live;
        if len > 0 {
            live.resize(live.len().max(start + len), 0);
            live[start..start + len].copy_from_slice(&bytes[..len]);
        }
        done
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|node| {
            node.live.resize(usize::try_from(len).unwrap(), 0);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|node| {
            node.synced = node.live.clone();
            Ok(())
        })
    }
}
