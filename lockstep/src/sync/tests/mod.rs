#[cfg(not(lockstep_loom))]
mod oracle;
#[cfg(not(lockstep_loom))]
mod stories;
#[cfg(not(lockstep_loom))]
mod stress;
