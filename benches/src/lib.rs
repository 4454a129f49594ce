//! What the benchmarks are made of: a load generator that never sleeps, servers as child processes
//! whose CPU time, system calls and allocations are read from outside, and the statistics and
//! tables made of them.
//!
//! The servers themselves stand in `bin/server/`, the programs that measure in `benches/`. Nothing
//! here uses ringloop: what measures must not share code with what is measured.

pub mod chart;
pub mod histogram;
pub mod http;
pub mod load;
pub mod machine;
pub mod net;
pub mod page;
pub mod process;
pub mod quiet;
pub mod ring;
pub mod stats;
pub mod syscalls;
pub mod table;
