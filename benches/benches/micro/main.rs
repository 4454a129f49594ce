//! What a runtime's own work costs: tasks, wakers, callbacks, timers, locks, queues, groups.
//!
//! `cargo bench --manifest-path benches/Cargo.toml --features others --bench micro` measures
//! everything and writes a table and a chart; `-- --smoke` shows in seconds that everything works.
//! Criterion takes the samples and keeps them; the time it is given is CPU time of the thread,
//! which other work of the machine does not lengthen, except where a subject says otherwise.

mod clock;
mod primitives;
mod runtimes;
mod structure;
mod subjects;
mod summary;

use criterion::Criterion;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    ringloop_benches::machine::note_load();
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let filtered = std::env::args()
        .skip(1)
        .any(|argument| !argument.starts_with("--"));
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let kept = home.join(if smoke { "micro-smoke" } else { "micro" });
    let mut criterion = Criterion::default().output_directory(&kept);
    criterion = if smoke {
        criterion
            .sample_size(10)
            .warm_up_time(Duration::from_millis(10))
            .measurement_time(Duration::from_millis(50))
    } else {
        criterion
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .configure_from_args()
    };
    let subjects = subjects::all(&mut criterion, smoke);
    criterion.final_summary();
    let out = if smoke || filtered {
        home.join("benchmarks")
    } else {
        PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/src/benchmarks"
        ))
    };
    let part = if smoke {
        Some("A smoke run: samples of 50 ms that say nothing about costs")
    } else {
        filtered.then_some("A part: what was not measured is of an earlier run, or –")
    };
    summary::write(&kept, &subjects, &out, part)?;
    Ok(())
}
