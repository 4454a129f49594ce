//! Tables and charts.

use crate::cells::{Cell, Row};
use crate::measure::{Measured, Memory};
use crate::options::Options;
use ringloop_benches::chart::Chart;
use ringloop_benches::stats::geometric_mean;
use ringloop_benches::syscalls::Tool;
use ringloop_benches::table::{Table, number};
use std::fmt::Write;
use std::{fs, io};

pub struct Report<'a> {
    pub machine: String,
    pub tool: Option<Tool>,
    pub servers: Vec<String>,
    pub measured: Vec<Measured>,
    /// In the order of the servers, the small buffer first.
    pub memory: Vec<Memory>,
    pub idle: usize,
    pub options: &'a Options,
}

/// The table of one cell.
pub fn cell(measured: &Measured) -> String {
    let mut table = Table::new([
        "server",
        "CPU µs / request",
        "ratio",
        "95 %",
        "requests / s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "system calls / request",
        "allocations / request",
    ]);
    for figures in &measured.figures {
        let latency = |share| number(figures.latency.quantile(share) as f64 / 1000.0);
        table.row([
            figures.server.clone(),
            number(figures.cpu.value / 1000.0),
            format!("{:.3}", figures.ratio.value),
            format!("{:.3}–{:.3}", figures.ratio.low, figures.ratio.high),
            format!("{:.0}", figures.rate.value),
            latency(0.5),
            latency(0.99),
            latency(0.999),
            figures.system_calls.map_or("–".to_owned(), number),
            number(figures.allocations),
        ]);
    }
    let (driven, counted) = measured.cycles;
    let note = if counted == 0 {
        format!("{driven} cycles, most of them disturbed by something else that ran.\n")
    } else if counted < driven {
        format!("{driven} cycles, of which at least {counted} were undisturbed and count.\n")
    } else {
        String::new()
    };
    format!("{}\n{note}", table.markdown())
}

impl Report<'_> {
    /// For each row that was measured, the geometric mean of each server's ratios.
    fn rows(&self) -> Vec<(&'static str, Vec<f64>)> {
        Row::ALL
            .into_iter()
            .filter_map(|row| {
                let cells: Vec<&Measured> = self
                    .measured
                    .iter()
                    .filter(|measured| measured.cell.row == row)
                    .collect();
                let ratios = (0..self.servers.len())
                    .map(|place| {
                        let each: Vec<f64> = cells
                            .iter()
                            .map(|measured| measured.figures[place].ratio.value)
                            .collect();
                        geometric_mean(&each)
                    })
                    .collect();
                (!cells.is_empty()).then_some((row.name(), ratios))
            })
            .collect()
    }

    /// The table of ratios, one line for each row, and that of memory.
    pub fn summary(&self) -> String {
        if self.measured.is_empty() {
            return self.memory_table();
        }
        let mut table = Table::new(
            std::iter::once("cells").chain(self.servers.iter().skip(1).map(String::as_str)),
        );
        for (name, ratios) in self.rows() {
            table.row(
                std::iter::once(name.to_owned())
                    .chain(ratios.iter().skip(1).map(|ratio| format!("{ratio:.2}"))),
            );
        }
        format!(
            "Server CPU for each request as a ratio to `{}`, geometric mean of the cells:\n\n{}\n{}",
            self.servers[0],
            table.markdown(),
            self.memory_table()
        )
    }

    fn memory_table(&self) -> String {
        if self.memory.is_empty() {
            return String::new();
        }
        let columns = |buffer: &str| [format!("memory, {buffer}"), format!("heap, {buffer}")];
        let mut table = Table::new(
            std::iter::once("server".to_owned())
                .chain(columns("1 KiB"))
                .chain(columns("16 KiB")),
        );
        for pair in self.memory.chunks(2) {
            let bytes = pair.iter().flat_map(|memory| [memory.memory, memory.heap]);
            table.row(
                std::iter::once(pair[0].server.clone()).chain(bytes.map(|bytes| bytes.to_string())),
            );
        }
        format!(
            "Bytes of user memory for an idle connection ({} of them, each served once), with buffers \
             of 1 KiB and of 16 KiB where each connection has one:\n\n{}",
            self.idle,
            table.markdown()
        )
    }

    fn settings(&self) -> String {
        let all = Cell::all().len();
        let part = if self.measured.len() < all {
            format!(
                "- Not everything was measured: {} of {all} cells: {}\n",
                self.measured.len(),
                self.measured
                    .iter()
                    .map(|measured| measured.cell.id())
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        } else {
            String::new()
        };
        format!(
            "{}{part}- Server on one core, load on another; {} cycles, slices of {} ms; system calls \
             counted with {}\n",
            self.machine,
            self.options.cycles,
            self.options.slice.as_millis(),
            self.tool.map_or("nothing", Tool::name)
        )
    }

    fn cells(&self) -> String {
        let mut text = String::new();
        for measured in &self.measured {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "### {}\n\n{}", measured.cell.name(), cell(measured));
        }
        text
    }

    fn chart(&self) -> Chart {
        Chart {
            title: format!("Server CPU per request, {} = 1", self.servers[0]),
            series: self.servers[1..].to_vec(),
            groups: self
                .rows()
                .into_iter()
                .map(|(name, ratios)| (name.to_owned(), ratios[1..].to_vec()))
                .collect(),
            range: (0.8, 2.5),
        }
    }

    /// Writes the files that the book includes.
    pub fn write(&self) -> io::Result<()> {
        let out = &self.options.out;
        fs::create_dir_all(out)?;
        fs::write(out.join("e2e-machine.md"), self.settings())?;
        fs::write(out.join("e2e-summary.md"), self.summary())?;
        fs::write(out.join("e2e-cells.md"), self.cells())?;
        if self.servers.len() > 1 {
            fs::write(out.join("e2e-cpu.svg"), self.chart().svg())?;
        }
        Ok(())
    }
}
