//! Inputs, and sequences of them.

use core::time::Duration;

use bytes::Bytes;

use super::recorder::{Recorder, UNANSWERED};
use super::rng::Rng;
use crate::entry::Entry;
use crate::ids::{DeviceId, ReplicaId};

/// Clients of a random script.
const CLIENTS: u64 = 6;

/// One thing that happens outside. Clients are named by numbers of the script's own choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A client opens a session; a client that has one asks for it again.
    Open {
        /// The client's number in the script.
        client: u32,
    },
    /// A client asks something, after opening a session if it has none.
    Request {
        /// The client's number in the script.
        client: u32,
        /// What it asks.
        body: Bytes,
    },
    /// A client asks again what it asked before; nothing if it cannot.
    Again {
        /// The client's number in the script.
        client: u32,
        /// How many requests ago: 0 for its last one, at most 3.
        back: usize,
    },
    /// A client closes its session, if it has one.
    Close {
        /// The client's number in the script.
        client: u32,
    },
    /// Something happens on a device.
    Device {
        /// The device that brings the input.
        device: DeviceId,
        /// The CoServer on which the device is.
        place: ReplicaId,
        /// The device's input.
        bytes: Bytes,
    },
    /// This much time passes, and nothing else.
    Pass(Duration),
    /// The CoServer at this place goes on alone. If it is no member it comes back first.
    Alone(ReplicaId),
    /// Both CoServers are members. One that was none comes back as a new process, behind the
    /// running one and with its state.
    Duplex {
        /// Which one orders the inputs.
        sequencer: ReplicaId,
    },
    /// Every process ends, and the CoServer at this place is started again and goes on alone with
    /// what it had on disk. If it is no member it comes back first. It is started at once; see
    /// [`RestartedAfter`](Self::RestartedAfter).
    Restarted(ReplicaId),
    /// As [`Restarted`](Self::Restarted), after a while in which no process runs. Log time goes on
    /// by that gap, and no wake-up comes before the devices stand again, which they do right after.
    RestartedAfter {
        /// The CoServer that is started again.
        place: ReplicaId,
        /// How long no process runs.
        gap: Duration,
    },
    /// All processes stand still, or none can order, for this long. Log time goes on, and what was
    /// due comes at its end.
    Gap(Duration),
    /// The sequencer role goes to this place. Without effect if its CoServer is no member.
    HandOver(ReplicaId),
}

impl Input {
    /// A client's request.
    pub fn request(client: u32, body: impl Into<Bytes>) -> Self {
        Self::Request { client, body: body.into() }
    }

    /// An event of a device at place A.
    pub fn device(device: u16, bytes: impl Into<Bytes>) -> Self {
        Self::Device { device: DeviceId(device), place: ReplicaId::A, bytes: bytes.into() }
    }
}

/// A sequence of inputs as a log would have them. It begins with the formation of a pair.
#[derive(Clone, Debug)]
pub struct Script {
    recorder: Recorder,
    entries: Vec<Entry>,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<Input> for Script {
    fn from_iter<I: IntoIterator<Item = Input>>(inputs: I) -> Self {
        inputs.into_iter().fold(Self::new(), Self::then)
    }
}

impl From<Vec<Input>> for Script {
    fn from(inputs: Vec<Input>) -> Self {
        inputs.into_iter().collect()
    }
}

impl Script {
    /// Nothing but the formation of a pair.
    pub fn new() -> Self {
        let mut recorder = Recorder::new();
        let entries = recorder.begin();
        Self { recorder, entries }
    }

    /// Then this happens.
    #[must_use]
    pub fn then(mut self, input: Input) -> Self {
        self.entries.extend(self.recorder.write(input));
        self
    }

    /// Then a client opens a session.
    #[must_use]
    pub fn open(self, client: u32) -> Self {
        self.then(Input::Open { client })
    }

    /// Then a client asks something, after opening a session if it has none.
    #[must_use]
    pub fn request(self, client: u32, body: impl Into<Bytes>) -> Self {
        self.then(Input::request(client, body))
    }

    /// Then a client repeats its last request.
    #[must_use]
    pub fn again(self, client: u32) -> Self {
        self.then(Input::Again { client, back: 0 })
    }

    /// Then a client closes its session.
    #[must_use]
    pub fn close(self, client: u32) -> Self {
        self.then(Input::Close { client })
    }

    /// Then something happens on a device.
    #[must_use]
    pub fn device(self, device: u16, place: ReplicaId, bytes: impl Into<Bytes>) -> Self {
        self.then(Input::Device { device: DeviceId(device), place, bytes: bytes.into() })
    }

    /// Then time passes.
    #[must_use]
    pub fn pass(self, span: Duration) -> Self {
        self.then(Input::Pass(span))
    }

    /// Then only the CoServer at this place is a member.
    #[must_use]
    pub fn alone(self, place: ReplicaId) -> Self {
        self.then(Input::Alone(place))
    }

    /// Then both are members; one that was none is back, as a new process.
    #[must_use]
    pub fn duplex(self, sequencer: ReplicaId) -> Self {
        self.then(Input::Duplex { sequencer })
    }

    /// Then every process ends, and the CoServer at this place, started again with its disk,
    /// goes on alone.
    #[must_use]
    pub fn restarted(self, place: ReplicaId) -> Self {
        self.then(Input::Restarted(place))
    }

    /// Then every process ends, and after this long the CoServer at this place, started again with
    /// its disk, goes on alone.
    #[must_use]
    pub fn restarted_after(self, place: ReplicaId, gap: Duration) -> Self {
        self.then(Input::RestartedAfter { place, gap })
    }

    /// Then nothing is ordered for so long, although wake-ups are due.
    #[must_use]
    pub fn gap(self, gap: Duration) -> Self {
        self.then(Input::Gap(gap))
    }

    /// A random script of about `length` inputs: requests with the bodies that `body` draws,
    /// and everything else that can happen to a service without devices.
    pub fn random<B: Into<Bytes>>(
        seed: u64,
        length: usize,
        mut body: impl FnMut(&mut Rng) -> B,
    ) -> Self {
        Self::random_inputs(seed, length, |rng| {
            let client = draw_client(rng);
            Input::request(client, body(rng))
        })
    }

    /// A random script of `length` inputs: three in four from `input`, for services with
    /// devices, the others anything that can happen to any service.
    pub fn random_inputs(
        seed: u64,
        length: usize,
        mut input: impl FnMut(&mut Rng) -> Input,
    ) -> Self {
        let mut rng = Rng::new(seed);
        let mut draw = || if rng.once_in(4) { ordinary(&mut rng) } else { input(&mut rng) };
        (0..length).map(|_| draw()).collect()
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn draw_client(rng: &mut Rng) -> u32 {
    u32::try_from(rng.below(CLIENTS)).unwrap_or(0)
}

fn ordinary(rng: &mut Rng) -> Input {
    let client = draw_client(rng);
    let place = *rng.pick(&ReplicaId::BOTH);
    match rng.below(13) {
        0..=1 => Input::Open { client },
        2..=4 => {
            let back = usize::try_from(rng.below(UNANSWERED as u64)).unwrap_or(0);
            Input::Again { client, back }
        }
        5 => Input::Close { client },
        // Up to a minute, mostly much less.
        6..=8 => {
            let most = *rng.pick(&[1_000_000, 1_000_000_000, 60_000_000_000]);
            Input::Pass(Duration::from_nanos(rng.below(most)))
        }
        9 => Input::Alone(place),
        10 => Input::Duplex { sequencer: place },
        11 if rng.once_in(2) => Input::Restarted(place),
        11 => {
            let gap = Duration::from_nanos(rng.below(7_200_000_000_000));
            if rng.once_in(2) { Input::Gap(gap) } else { Input::RestartedAfter { place, gap } }
        }
        _ => Input::HandOver(place),
    }
}
