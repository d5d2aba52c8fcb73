//! Redirected devices for lockstep services: clock, timers, random numbers, requests and TCP.
//!
//! A service that runs in lockstep on two CoServers must compute the same on both, so it may touch
//! nothing that differs between them. Here is what it uses instead. Each device has two halves.
//! The *inside* half is deterministic, part of the replicated state, and what the service calls
//! through [`Io`]. The *outside* half does the real thing on a CoServer. It turns what happens
//! into inputs, which are ordered and shipped to both, and carries out outputs once both CoServers
//! have computed them.
//!
//! ```
//! use core::time::Duration;
//! use io_redirect::snapshot::Snapshot;
//! use io_redirect::tcp::{ConnId, ListenOptions, TcpEvent, TcpLimits};
//! use io_redirect::{Harness, Io, Service, TimerId, Token, Wrapper};
//! use lockstep::digest::Digest;
//! use lockstep::machine::{Identity, RecordSource, RestoreError};
//!
//! /// Tells everyone who connects what time it is, every second.
//! #[derive(Default)]
//! struct SpeakingClock {
//!     listeners: Vec<u64>,
//! }
//!
//! impl Service for SpeakingClock {
//!     type Frozen = Snapshot<Vec<u64>>;
//!     fn identity(&self) -> Identity {
//!         Identity { name: "clock".into(), version: 1, configuration: Digest::ZERO }
//!     }
//!     fn on_start(&mut self, io: &mut Io<'_>) {
//!         // Errors of these are bounds that one listener and one timer cannot reach.
//!         let _ = io.tcp().listen("clock", ListenOptions::default());
//!         let _ = io.timers().after(Duration::from_secs(1), Token(0));
//!     }
//!     fn on_timer(&mut self, io: &mut Io<'_>, _: TimerId, token: Token) {
//!         let text = format!("{}\r\n", io.now().0 / 1_000_000_000);
//!         for conn in &self.listeners {
//!             let _ = io.tcp().send(ConnId(*conn), text.as_bytes());
//!         }
//!         let _ = io.timers().after(Duration::from_secs(1), token);
//!     }
//!     fn on_tcp(&mut self, _: &mut Io<'_>, event: TcpEvent) {
//!         match event {
//!             TcpEvent::Accepted { conn, .. } => self.listeners.push(conn.0),
//!             TcpEvent::Ended { conn } | TcpEvent::Reset { conn, .. } => {
//!                 self.listeners.retain(|known| *known != conn.0);
//!             }
//!             _ => {}
//!         }
//!     }
//!     fn freeze(&self) -> Self::Frozen {
//!         Snapshot(self.listeners.clone())
//!     }
//!     fn restore(&mut self, records: &mut dyn RecordSource) -> Result<(), RestoreError> {
//!         self.listeners = Snapshot::read(records)?;
//!         Ok(())
//!     }
//! }
//!
//! let service = Wrapper::with_tcp(SpeakingClock::default(), TcpLimits::default())?;
//! let mut scenario = Harness::new(service);
//! let client = scenario.connect("clock")?;
//! scenario.advance(Duration::from_secs(2));
//! assert_eq!(scenario.take(client), b"1700000001\r\n1700000002\r\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # From a service to a program
//!
//! A wrapped service is a [`StateMachine`](lockstep::machine::StateMachine) with devices. A program
//! makes both. It makes the service from what must be the same on both CoServers, and the outside
//! halves of its devices from what is each CoServer's own. That is, for example, the addresses on
//! which it listens.
//!
#![cfg_attr(feature = "runtime", doc = "```")]
#![cfg_attr(not(feature = "runtime"), doc = "```ignore")]
//! # use io_redirect::snapshot::Snapshot;
//! # use io_redirect::{Io, Service};
//! # use io_redirect::lockstep::digest::Digest;
//! # use io_redirect::lockstep::machine::{Identity, RecordSource, RestoreError};
//! # #[derive(Default)]
//! # struct SpeakingClock;
//! # impl Service for SpeakingClock {
//! #     type Frozen = Snapshot<Vec<u64>>;
//! #     fn identity(&self) -> Identity {
//! #         Identity { name: "clock".into(), version: 1, configuration: Digest::ZERO }
//! #     }
//! #     fn freeze(&self) -> Self::Frozen { Snapshot(Vec::new()) }
//! #     fn restore(&mut self, _: &mut dyn RecordSource) -> Result<(), RestoreError> { Ok(()) }
//! # }
//! use std::error::Error;
//! use std::net::SocketAddr;
//! use io_redirect::Wrapper;
//! use io_redirect::lockstep::ids::ReplicaId;
//! use io_redirect::lockstep::runtime::cli::{self, Application, BuildError, Program};
//! use io_redirect::lockstep::runtime::config::Section;
//! use io_redirect::lockstep::runtime::coserver::Devices;
//! use io_redirect::lockstep::runtime::init::{Ports, ServiceSections};
//! use io_redirect::tcp::{TcpLimits, TcpOptions, TcpOutside};
//!
//! struct Clock;
//!
//! impl Application for Clock {
//!     type Service = Wrapper<SpeakingClock>;
//!
//!     fn program(&self) -> Program {
//!         Program { name: "clock", version: "1.0.0", about: "Tells the time, on two servers." }
//!     }
//!
//!     // At each start of a CoServer, from its section `[service]`.
//!     fn build(&self, _: ReplicaId, mut own: Section) -> Result<(Self::Service, Devices), BuildError> {
//!         let listen: Vec<SocketAddr> = own.required("listen", "where clients are told the time")?;
//!         own.finish()?;
//!         let service = Wrapper::with_tcp(SpeakingClock, TcpLimits::default())
//!             .map_err(BuildError::other)?;
//!         // "clock" is the name by which the service orders this listener.
//!         let listen = [("clock".to_owned(), listen)].into();
//!         let outside = TcpOutside::bind(TcpOptions { listen, ..TcpOptions::default() })
//!             .map_err(BuildError::other)?;
//!         // One outside half for each device that the service has, in the table's order.
//!         let table = service.devices().clone();
//!         Ok((service, Devices { table, outsides: vec![Box::new(outside)] }))
//!     }
//!
//!     // Once, when a pair is made: what `init` writes into the sections `[service]`.
//!     fn init(&self, ports: &mut Ports) -> Result<ServiceSections, Box<dyn Error + Send + Sync>> {
//!         let mut section = |place| ports.next(place).map(|at| format!("listen = [\"{at}\"]\n"));
//!         let coservers = [section(ReplicaId::A)?, section(ReplicaId::B)?];
//!         Ok(ServiceSections { coservers, client: String::new() })
//!     }
//! }
//!
//! # fn unused() -> std::process::ExitCode {
//! // The whole of `main`:
//! cli::main(&Clock)
//! # }
//! # let text = "listen = [\"127.0.0.1:0\"]";
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # let _inside = runtime.enter();
//! # let (_, devices) = Clock.build(ReplicaId::A, Section::parse("a.toml", text)?)?;
//! # assert_eq!(devices.outsides.len(), 1);
//! # Ok::<(), Box<dyn Error>>(())
//! ```
//!
//! A program without a device of the library has `Devices::default()`. Devices of one's own are
//! added with [`Builder::device`], and their outside halves in the same order; see [`custom`].
//!
//! # What survives what
//!
//! The service's state, its sessions, timers, random numbers and listeners are replicated: they
//! are as they were when a CoServer dies, when it is back, and when both had ended and one is
//! started again with its disk. What belongs to a process ends with it:
//!
//! | | its CoServer is removed or dies | the CoServer is back, as another process | both ended, one was started again |
//! | --- | --- | --- | --- |
//! | connections | [`Reset`](tcp::TcpEvent::Reset) with [`CarrierLost`](tcp::ResetCause::CarrierLost); those of the other stay | those of the other stay | all reset, with `CarrierLost` |
//! | connections being made | made by the other | | made by the one that is there |
//! | listeners | those of the other go on | ordered anew there | ordered anew |
//! | outputs under way on a device of one's own | as its class says; [`Members::left`] tells | [`Members::came`] tells | both; and what was released last may be released again |
//!
//! # Where things are
//!
//! - [`service`]: the trait to implement; [`wrapper`]: what makes a state machine of it;
//!   [`snapshot`]: how its state is frozen.
//! - [`io`]: what it is lent for each event: [`timers`], [`random`], [`tcp`], devices of its
//!   own.
//! - [`harness`]: for its tests, a pair without sockets, clock or engine.
//! - [`custom`]: how to write a device of one's own.
//! - [`limits`]: every bound, and what happens at one more.
//!
//! A service needs no other crate than this one: [`lockstep`], [`bytes`], [`rand_core`] and
//! [`tracing`] are re-exported.
//!
//! Feature `runtime` (default) adds the outside halves, on tokio. Without it everything here is
//! deterministic and does no I/O.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub use {bytes, lockstep, rand_core, tracing};

pub mod harness;
pub mod io;
pub mod limits;
pub mod random;
pub mod requests;
pub mod service;
pub mod snapshot;
pub mod tcp;
pub mod timers;
pub mod wrapper;

#[doc = include_str!("../docs/devices.md")]
pub mod custom {}

pub use harness::Harness;
pub use io::Io;
pub use requests::Request;
pub use service::{DeviceEvent, Members, Service};
pub use timers::{TimerId, Token};
pub use wrapper::{Builder, Wrapper};

#[cfg(test)]
mod tests;
