//! End to end: all servers of a cell run at once on one core and are driven in turn, in short
//! slices, from another one; what is compared was measured within the same cycle.
//!
//! `cargo bench --manifest-path benches/Cargo.toml --features others --bench e2e` measures
//! everything and writes tables and charts; `-- --help` names the options.

mod cells;
mod measure;
mod options;
mod report;

use options::Options;
use ringloop_benches::load::Load;
use ringloop_benches::syscalls::Tool;
use ringloop_benches::{machine, process};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// The servers, built with this program.
const SERVER: &str = env!("CARGO_BIN_EXE_server");

/// Descriptors that are not those of connections.
const SPARE_FILES: u64 = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = Options::from_arguments(std::env::args().skip(1))? else {
        println!("{}", options::HELP);
        return Ok(());
    };
    let program = Path::new(SERVER);
    let servers = options.servers(process::list(program)?)?;
    let cells = options.cells()?;
    if options.list {
        println!("servers: {}", servers.join(" "));
        for cell in &cells {
            println!("{:24} {}", cell.id(), cell.row.name());
        }
        return Ok(());
    }
    machine::note_load();
    process::pin(options.load_core)?;
    if options.realtime {
        process::before_others()?;
    }
    let files = process::lift_file_limit()?;
    let tool = if options.system_calls {
        Tool::find()
    } else {
        None
    };
    println!(
        "{} cells, {} servers, {} cycles of {} ms slices",
        cells.len(),
        servers.len(),
        options.cycles,
        options.slice.as_millis()
    );

    let start = Instant::now();
    let mut load = Load::new()?;
    let mut measured = Vec::new();
    for (place, cell) in cells.iter().enumerate() {
        println!(
            "\n[{}/{} · {:.0} s] {}",
            place + 1,
            cells.len(),
            start.elapsed().as_secs_f64(),
            cell.name()
        );
        let at_once = files.saturating_sub(SPARE_FILES) as usize / cell.connections;
        if at_once < servers.len().min(2) {
            println!("left out: more connections than the limit of {files} open files allows");
            continue;
        }
        let result = measure::in_groups(&servers, at_once, |group| {
            measure::cell(&mut load, *cell, group, program, &options, tool)
        })?;
        println!("{}", report::cell(&result));
        measured.push(result);
    }
    let files = files.saturating_sub(SPARE_FILES) as usize;
    let idle = options.idle.min(files.saturating_sub(measure::WARM));
    let mut memory = Vec::new();
    if idle > 0 {
        println!("\nmemory of {idle} idle connections");
        for server in &servers {
            for buffer in [measure::SMALL_BUFFER, measure::BUFFER] {
                let result = measure::memory(&mut load, server, buffer, program, &options, idle)?;
                println!(
                    "{server}, {buffer} B received at once: {} B each, {} B of heap",
                    result.memory, result.heap
                );
                memory.push(result);
            }
        }
    }
    let report = report::Report {
        machine: machine::describe(),
        tool,
        servers,
        measured,
        memory,
        idle,
        options: &options,
    };
    println!("\n{}", report.summary());
    report.write()?;
    println!(
        "\nwritten to {} after {:.0} s",
        options.out.display(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
