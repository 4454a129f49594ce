//! What the command line asks for.

use crate::cells::Cell;
use std::path::PathBuf;
use std::time::Duration;

pub const HELP: &str = "\
e2e: measures servers against each other, end to end

  --smoke          a few cells, short slices: shows that everything works, in 20 seconds
  --servers A,B    only these servers (the first, or `ring`, is what the others are compared with)
  --cells X,Y      only cells whose id is, or begins with, one of these
  --cycles N       cycles of each cell (15)
  --slice MS       milliseconds of a slice (50)
  --idle N         idle connections whose memory is measured (10000), 0: none
  --memory-only    measures no cells, only that memory
  --no-syscalls    does not count system calls
  --realtime       load and servers run before everything else, half of the time, where the
                   machine has other work to do
  --load-core N    where the load runs (0)
  --server-core N  where the servers run (1)
  --out DIR        where tables and charts go (docs/src/benchmarks; for a part of the cells or
                   servers, the target directory's tmp/benchmarks)
  --list           prints the servers and cells that would be measured";

pub struct Options {
    pub smoke: bool,
    pub list: bool,
    pub cycles: usize,
    pub slice: Duration,
    pub idle: usize,
    pub system_calls: bool,
    pub realtime: bool,
    memory_only: bool,
    pub load_core: usize,
    pub server_core: usize,
    pub out: PathBuf,
    only_servers: Vec<String>,
    only_cells: Vec<String>,
}

/// What `--smoke` measures.
const SMOKE: [&str; 6] = [
    "echo-1-64-1",
    "echo-50-1024-16",
    "echo-50-16384-16",
    "echo-500-64-1",
    "http-50-1",
    "churn-50-64",
];

impl Options {
    /// `None`: help is wanted.
    pub fn from_arguments(
        arguments: impl Iterator<Item = String>,
    ) -> Result<Option<Options>, String> {
        let mut options = Options {
            smoke: false,
            list: false,
            cycles: 15,
            slice: Duration::from_millis(50),
            idle: 10_000,
            system_calls: true,
            realtime: false,
            memory_only: false,
            load_core: 0,
            server_core: 1,
            out: PathBuf::new(),
            only_servers: Vec::new(),
            only_cells: Vec::new(),
        };
        let mut out = None;
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            let number = |text: String| {
                text.parse::<usize>()
                    .map_err(|_| format!("{text} is no number"))
            };
            let names = |text: String| text.split(',').map(str::to_owned).collect();
            match argument.as_str() {
                // Cargo says so to every benchmark.
                "--bench" => {}
                "--smoke" => {
                    options.smoke = true;
                    options.cycles = 3;
                    options.slice = Duration::from_millis(20);
                    options.idle = 500;
                    options.only_cells = SMOKE.map(str::to_owned).to_vec();
                }
                "--servers" => options.only_servers = names(value()?),
                "--cells" => options.only_cells = names(value()?),
                "--cycles" => options.cycles = number(value()?)?.max(1),
                "--slice" => options.slice = Duration::from_millis(number(value()?)? as u64),
                "--idle" => options.idle = number(value()?)?,
                "--memory-only" => options.memory_only = true,
                "--realtime" => options.realtime = true,
                "--no-syscalls" => options.system_calls = false,
                "--load-core" => options.load_core = number(value()?)?,
                "--server-core" => options.server_core = number(value()?)?,
                "--out" => out = Some(PathBuf::from(value()?)),
                "--list" => options.list = true,
                "--help" => return Ok(None),
                other => return Err(format!("{other}: no such option; --help names them")),
            }
        }
        let whole = options.only_cells.is_empty()
            && options.only_servers.is_empty()
            && !options.memory_only;
        options.out = out.unwrap_or_else(|| {
            if whole {
                PathBuf::from(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/../docs/src/benchmarks"
                ))
            } else {
                PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("benchmarks")
            }
        });
        Ok(Some(options))
    }

    /// Those of the servers that are to be measured, the reference first.
    pub fn servers(&self, built: Vec<String>) -> Result<Vec<String>, String> {
        if self.only_servers.is_empty() {
            return Ok(built);
        }
        for name in &self.only_servers {
            if !built.contains(name) {
                return Err(format!(
                    "{name}: no such server; there are {}",
                    built.join(" ")
                ));
            }
        }
        let mut servers = self.only_servers.clone();
        servers.sort_by_key(|name| name != "ring");
        Ok(servers)
    }

    /// Those of the cells that are to be measured.
    pub fn cells(&self) -> Result<Vec<Cell>, String> {
        if self.memory_only {
            return Ok(Vec::new());
        }
        let mut cells = Cell::all();
        if !self.only_cells.is_empty() {
            cells.retain(|cell| {
                let id = cell.id();
                self.only_cells.iter().any(|wanted| {
                    id == *wanted || id.starts_with(&format!("{}-", wanted.trim_end_matches('-')))
                })
            });
        }
        if cells.is_empty() {
            return Err("no such cell; --list names them".to_owned());
        }
        Ok(cells)
    }
}
