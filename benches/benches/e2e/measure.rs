//! Measures a cell: all its servers up at once, driven in turn.

use crate::cells::Cell;
use crate::options::Options;
use ringloop_benches::histogram::Histogram;
use ringloop_benches::load::{Load, Session, Slice, Work};
use ringloop_benches::process::{Server, Softirqs};
use ringloop_benches::quiet::Watch;
use ringloop_benches::stats::{Median, median};
use ringloop_benches::syscalls::Tool;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that servers receive at once at most.
pub const BUFFER: usize = 16 * 1024;

/// The smaller buffer for which memory is measured too.
pub const SMALL_BUFFER: usize = 1024;

/// What a server did in a cell.
pub struct Figures {
    pub server: String,
    /// Nanoseconds of CPU for each request.
    pub cpu: Median,
    /// The same as a ratio to the first server, within the same cycle.
    pub ratio: Median,
    /// Requests in a second.
    pub rate: Median,
    pub latency: Histogram,
    /// System calls for each request.
    pub system_calls: Option<f64>,
    /// Allocations for each request.
    pub allocations: f64,
}

pub struct Measured {
    pub cell: Cell,
    pub figures: Vec<Figures>,
    /// Cycles that were driven, and that counted for the server with the fewest: the others were
    /// disturbed by something else that ran.
    pub cycles: (usize, usize),
}

/// How often a cell is driven at most, as a multiple of the cycles asked for, while something else
/// runs and spoils slices.
const PERSISTENCE: usize = 4;

/// What one slice gave.
struct Sample {
    cpu: f64,
    rate: f64,
    latency: Histogram,
    quiet: bool,
}

struct Running {
    server: Server,
    session: Session,
    samples: Vec<Sample>,
}

fn named<T>(result: io::Result<T>, server: &str) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{server}: {error}")))
}

fn requests(slice: &Slice) -> f64 {
    slice.requests.max(1) as f64
}

/// Measures a cell with at most so many servers up at once: the first, with which all are compared,
/// in each group.
pub fn in_groups(
    servers: &[String],
    at_once: usize,
    mut measure: impl FnMut(&[String]) -> io::Result<Measured>,
) -> io::Result<Measured> {
    let (reference, others) = servers.split_at(1);
    let mut groups = others.chunks(at_once.saturating_sub(1).max(1));
    let group = |others: &[String]| [reference, others].concat();
    let mut all = measure(&group(groups.next().unwrap_or_default()))?;
    for others in groups {
        let more = measure(&group(others))?;
        all.figures.extend(more.figures.into_iter().skip(1));
        all.cycles.0 = all.cycles.0.max(more.cycles.0);
        all.cycles.1 = all.cycles.1.min(more.cycles.1);
    }
    Ok(all)
}

/// Measures a cell: all of these servers up at once, driven in turn.
pub fn cell(
    load: &mut Load,
    cell: Cell,
    servers: &[String],
    program: &Path,
    options: &Options,
    tool: Option<Tool>,
) -> io::Result<Measured> {
    let mut all = Vec::new();
    for name in servers {
        let core = options.server_core;
        let server = Server::start(program, name, cell.mode(), BUFFER, core, false)?;
        let session = named(load.open(server.port(), cell.work, cell.connections), name)?;
        named(load.drive(&session, options.slice * 2), name)?;
        all.push(Running {
            server,
            session,
            samples: Vec::new(),
        });
    }
    let mut driven = 0;
    while driven < options.cycles
        || driven < options.cycles * PERSISTENCE && undisturbed(&all) < options.cycles
    {
        let begun = Instant::now();
        cycle(load, &mut all, driven, servers, options)?;
        driven += 1;
        if options.realtime {
            std::thread::sleep(begun.elapsed());
        }
    }
    let counted = undisturbed(&all);
    // With hardly any quiet slices, disturbed ones are better than none.
    let all_count = counted < options.cycles.div_ceil(2);
    let mut figures = Vec::new();
    let counts: Vec<Vec<bool>> = all
        .iter()
        .map(|running| {
            std::iter::zip(&running.samples, &all[0].samples)
                .map(|(mine, reference)| all_count || mine.quiet && reference.quiet)
                .collect()
        })
        .collect();
    let reference: Vec<f64> = all[0].samples.iter().map(|sample| sample.cpu).collect();
    for ((name, running), counts) in servers.iter().zip(all).zip(counts) {
        let Running {
            server,
            session,
            samples,
        } = running;
        let mut system_calls = None;
        if let Some(tool) = tool {
            let (slice, count) = named(
                tool.count(server.id(), || load.drive(&session, options.slice)),
                name,
            )?;
            system_calls = count.map(|count| count as f64 / requests(&slice));
        }
        server.page().count(true);
        let slice = named(load.drive(&session, options.slice), name)?;
        server.page().count(false);
        let (mut cpu, mut ratio, mut rate) = (Vec::new(), Vec::new(), Vec::new());
        let mut latency = Histogram::default();
        for ((sample, reference), counts) in samples.iter().zip(&reference).zip(counts) {
            if counts {
                cpu.push(sample.cpu);
                ratio.push(sample.cpu / reference);
                rate.push(sample.rate);
                latency.add(&sample.latency);
            }
        }
        figures.push(Figures {
            server: name.clone(),
            cpu: median(&cpu),
            ratio: median(&ratio),
            rate: median(&rate),
            latency,
            system_calls,
            allocations: server.page().allocations() as f64 / requests(&slice),
        });
        named(load.close(session), name)?;
    }
    Ok(Measured {
        cell,
        figures,
        cycles: (driven, if all_count { 0 } else { counted }),
    })
}

/// Cycles in which the server that was disturbed most and the reference were both undisturbed.
fn undisturbed(all: &[Running]) -> usize {
    all.iter()
        .map(|running| {
            std::iter::zip(&running.samples, &all[0].samples)
                .filter(|(mine, reference)| mine.quiet && reference.quiet)
                .count()
        })
        .min()
        .unwrap_or(0)
}

/// Drives each server once.
fn cycle(
    load: &mut Load,
    all: &mut [Running],
    number: usize,
    servers: &[String],
    options: &Options,
) -> io::Result<()> {
    let softirqs = Softirqs::of(options.server_core);
    for turn in 0..all.len() {
        // Each cycle begins with another server, so that none is always first after a pause.
        let place = (number + turn) % all.len();
        let running = &mut all[place];
        let watch = Watch::begin(options.realtime)?;
        let before = running.server.cpu()? + softirqs.cpu();
        let slice = named(load.drive(&running.session, options.slice), &servers[place])?;
        let used = running.server.cpu()? + softirqs.cpu() - before;
        let quiet = watch.end()?;
        running.samples.push(Sample {
            cpu: used as f64 / requests(&slice),
            rate: requests(&slice) / slice.elapsed.as_secs_f64(),
            latency: slice.latency,
            quiet,
        });
    }
    Ok(())
}

/// Bytes for an idle connection, of memory and of heap.
pub struct Memory {
    pub server: String,
    pub memory: i64,
    pub heap: i64,
}

/// So many connections are there before, so that what all share is there as well: buffers, lists.
pub const WARM: usize = 500;

/// Measures that over so many connections, each served once.
pub fn memory(
    load: &mut Load,
    name: &str,
    buffer: usize,
    program: &Path,
    options: &Options,
    connections: usize,
) -> io::Result<Memory> {
    let work = Work::Echo {
        size: 64,
        in_flight: 1,
    };
    let server = Server::start(program, name, "echo", buffer, options.server_core, true)?;
    let few = named(load.open(server.port(), work, WARM), name)?;
    named(load.drive(&few, Duration::from_millis(20)), name)?;
    let (memory, heap) = (server.memory()?, server.page().live());
    let many = named(load.open(server.port(), work, connections), name)?;
    named(load.once(&many), name)?;
    let each = |bytes: i64| bytes / connections as i64;
    let result = Memory {
        server: name.to_owned(),
        memory: each(server.memory()? as i64 - memory as i64),
        heap: each(server.page().live() - heap),
    };
    named(load.close(many), name)?;
    named(load.close(few), name)?;
    Ok(result)
}
