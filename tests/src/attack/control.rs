//! A process that burns processor time, as much as an attacker used.

use std::time::{Duration, Instant};

/// Of this long a part is burnt.
const TURN: Duration = Duration::from_millis(2);

/// Burns so many parts in a thousand of one processor's time, or of several; until the process
/// is ended.
#[expect(clippy::disallowed_methods, reason = "a control is outside the pair")]
pub fn burn(parts: u64, ready: impl FnOnce()) {
    ready();
    let threads = parts.div_ceil(1000).max(1);
    let each = u32::try_from(parts / threads).unwrap_or(u32::MAX);
    let workers: Vec<_> =
        (0..threads).map(|_| std::thread::spawn(move || burn_one(TURN * each / 1000))).collect();
    for worker in workers {
        let _ = worker.join();
    }
}

#[expect(clippy::disallowed_methods, reason = "a control is outside the pair")]
fn burn_one(busy: Duration) {
    loop {
        let began = Instant::now();
        while began.elapsed() < busy {
            std::hint::spin_loop();
        }
        std::thread::sleep(TURN.saturating_sub(began.elapsed()));
    }
}
