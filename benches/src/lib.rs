//! Latency benchmarks, every row in one run with the same affinity.
