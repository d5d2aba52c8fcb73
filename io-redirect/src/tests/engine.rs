//! The wrapper in the engine's own unit: wake-ups, outputs and restoring as they are there.

use core::time::Duration;

use lockstep::ids::ReplicaId;
use lockstep::machine::StateMachine;
use lockstep::output::{Carrier, OutputKind};
use lockstep::testing::{Input, Solo};

use super::Probe;
use crate::wrapper::Builder;
use crate::{Wrapper, tcp::TcpLimits};

#[test]
fn both_coservers_are_told_to_listen_once_they_are_members() {
    let solo = Solo::new(Probe::wrapped());
    let carriers: Vec<_> = solo
        .started()
        .iter()
        .map(|output| match &output.kind {
            OutputKind::Device { carrier, .. } => *carrier,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(carriers, [Carrier::Replica(ReplicaId::A), Carrier::Replica(ReplicaId::B)]);
}

#[test]
fn all_due_timers_fire_before_the_next_input() {
    let mut solo = Solo::new(Probe::wrapped());
    for ask in ["timer 50 1", "timer 50 2", "timer 40 3"] {
        solo.feed(Input::request(1, ask));
    }
    solo.feed(Input::Pass(Duration::from_millis(100)));
    solo.feed(Input::device(1, "late"));
    let outputs = solo.feed(Input::request(1, "diary"));
    let reply = outputs.iter().find_map(|output| match &output.kind {
        OutputKind::Reply { result: Ok(bytes), .. } => Some(bytes.clone()),
        _ => None,
    });
    let diary = String::from_utf8(reply.unwrap().to_vec()).unwrap();
    let told: Vec<&str> = diary.lines().filter(|line| !line.starts_with("members")).collect();
    assert!(told[0].starts_with("timer 3 late by 0"), "{told:?}");
    assert!(told[1].starts_with("timer 1 late by 0"), "{told:?}");
    assert!(told[2].starts_with("timer 2"), "{told:?}");
    assert_eq!(told[3], "lamp at a says late");
}

#[test]
fn every_difference_of_devices_or_bounds_shows_in_the_identity() {
    let digest = |limits: TcpLimits, device: Option<&str>| {
        let mut builder: Builder<Probe> = Wrapper::builder(Probe::default()).tcp(limits).unwrap();
        if let Some(name) = device {
            builder = builder.device(name, lockstep::device::OutputClass::Repeatable).unwrap();
        }
        builder.build().identity().configuration
    };
    let plain = TcpLimits::default();
    let other = TcpLimits { read_window: plain.read_window * 2, ..plain };
    let digests = [digest(plain, None), digest(other, None), digest(plain, Some("lamp"))];
    assert!(digests[0] != digests[1] && digests[0] != digests[2]);
    assert_eq!(digests[0], digest(plain, None));
    assert!(Wrapper::with_tcp(Probe::default(), TcpLimits { send_window: 1, ..plain }).is_err());
}
