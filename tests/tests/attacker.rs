//! A little of each attack of the `attacker` command: nobody is removed, everything is given back,
//! and honest clients are served all the time. How much slower they are is measured by the command.

use std::time::Duration;

use lockstep_tests::attack::{Force, Mode, Plan, Service, Stage};

const ATTACKER: &str = env!("CARGO_BIN_EXE_attacker");

#[test]
fn no_attack_removes_a_coserver_keeps_anything_or_shuts_anybody_out() {
    // Of each service one pair for all attacks on it: what one leaves behind would count for the
    // next.
    for service in [Service::Echo, Service::Relay] {
        let modes = Mode::ALL.into_iter().filter(|mode| mode.service() == service);
        survives(service, &modes.collect::<Vec<_>>());
    }
}

fn survives(service: Service, modes: &[Mode]) {
    let plan = Plan { force: Force::Little, each: Duration::from_millis(700), rounds: 0 };
    let mut stage = Stage::start(ATTACKER, service, false);
    let reports: Vec<_> = modes.iter().map(|mode| stage.attack(*mode, &plan)).collect();
    let broken: usize = reports.iter().map(|report| report.broken().len()).sum();
    // All that they left together: connections that are not closed end after ten seconds.
    let given_back = stage.given_back();
    stage.finish().unwrap_or_else(|why| panic!("{why}"));
    assert_eq!((broken, given_back), (0, Ok(())), "{reports:#?}");
}
