#[cfg(lockstep_loom)]
mod models;
#[cfg(not(lockstep_loom))]
mod oracle;
#[cfg(not(lockstep_loom))]
mod scenarios;
#[cfg(not(lockstep_loom))]
mod stress;
