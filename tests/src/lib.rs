//! Tests across crates and across real processes.
