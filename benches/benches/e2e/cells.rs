//! What is measured: the cells, and the rows of the table of ratios that sum them up.

use ringloop_benches::load::Work;

/// A row: cells that belong together, summed up by their geometric mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    One,
    Some1,
    Some16,
    Many,
    Big1,
    Big16,
    Http,
    Churn,
}

impl Row {
    pub const ALL: [Row; 8] = [
        Row::One,
        Row::Some1,
        Row::Some16,
        Row::Many,
        Row::Big1,
        Row::Big16,
        Row::Http,
        Row::Churn,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Row::One => "1 connection, ≤ 1 KiB",
            Row::Some1 => "50–500, ≤ 1 KiB, 1 in flight",
            Row::Some16 => "50–500, ≤ 1 KiB, 16 in flight",
            Row::Many => "2000, ≤ 1 KiB",
            Row::Big1 => "16 KiB, 1 in flight",
            Row::Big16 => "16 KiB, 16 in flight",
            Row::Http => "HTTP/1.1 hello, same parser",
            Row::Churn => "connect, one request, close",
        }
    }
}

/// One combination of what is asked and over how many connections.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub work: Work,
    pub connections: usize,
    pub row: Row,
}

impl Cell {
    /// A short name to choose it by.
    pub fn id(&self) -> String {
        let connections = self.connections;
        match self.work {
            Work::Echo { size, in_flight } => format!("echo-{connections}-{size}-{in_flight}"),
            Work::Http { in_flight } => format!("http-{connections}-{in_flight}"),
            Work::Churn { size } => format!("churn-{connections}-{size}"),
        }
    }

    /// A name to read.
    pub fn name(&self) -> String {
        let connections = match self.connections {
            1 => "1 connection".to_owned(),
            number => format!("{number} connections"),
        };
        let bytes = |size: usize| match size {
            0..1024 => format!("{size} B"),
            _ => format!("{} KiB", size / 1024),
        };
        match self.work {
            Work::Echo { size, in_flight } => {
                format!(
                    "echo, {connections}, {}, {in_flight} in flight",
                    bytes(size)
                )
            }
            Work::Http { in_flight } => format!("HTTP, {connections}, {in_flight} in flight"),
            Work::Churn { size } => format!("churn, {connections} at a time, {}", bytes(size)),
        }
    }

    /// What the servers are told to do.
    pub fn mode(&self) -> &'static str {
        match self.work {
            Work::Http { .. } => "http",
            _ => "echo",
        }
    }

    /// All of them.
    pub fn all() -> Vec<Cell> {
        let mut cells = Vec::new();
        for connections in [1, 50, 500, 2000] {
            for size in [64, 1024, 16 * 1024] {
                for in_flight in [1, 16] {
                    let row = match (connections, size, in_flight) {
                        (_, 16384, 1) => Row::Big1,
                        (_, 16384, _) => Row::Big16,
                        (1, ..) => Row::One,
                        (2000, ..) => Row::Many,
                        (_, _, 1) => Row::Some1,
                        _ => Row::Some16,
                    };
                    cells.push(Cell {
                        work: Work::Echo { size, in_flight },
                        connections,
                        row,
                    });
                }
            }
        }
        for (connections, in_flight) in [(1, 1), (50, 1), (50, 16), (500, 1)] {
            cells.push(Cell {
                work: Work::Http { in_flight },
                connections,
                row: Row::Http,
            });
        }
        for connections in [1, 50] {
            cells.push(Cell {
                work: Work::Churn { size: 64 },
                connections,
                row: Row::Churn,
            });
        }
        cells
    }
}
