//! The ledger as data.

use std::collections::BTreeMap;

/// The families of ids of the contract and how many rows each has, numbered from 1.
#[rustfmt::skip]
const FAMILIES: [(&str, u32); 55] = [
    ("LOOP", 24), ("SCH", 19), ("HND", 7), ("EXE", 5), ("THR", 3), ("ERR", 7), ("DBG", 3),
    ("TFC", 4), ("CUR", 3), ("RES", 7), ("CON", 17), ("SRVC", 15), ("DGE", 9), ("FD", 9),
    ("SOCK", 14), ("SIG", 9), ("UNX", 9), ("TRN", 13), ("TSO", 21), ("BUF", 6), ("FLOW", 5),
    ("TDG", 12), ("PRO", 13), ("PIPE", 14), ("SNF", 19), ("TLS", 21), ("FUT", 26), ("TSK", 21),
    ("CAN", 19), ("CTX", 3), ("EAG", 13), ("REG", 13), ("GRF", 4), ("LCK", 7), ("EVT", 4),
    ("CND", 9), ("SEM", 5), ("BAR", 7), ("QUE", 14), ("BND", 1), ("SLP", 3), ("GTH", 12),
    ("WAI", 6), ("ASC", 5), ("WFR", 9), ("TMO", 12), ("SHD", 6), ("TGR", 14), ("RCT", 4),
    ("HEB", 3), ("RNR", 12), ("STR", 18), ("STW", 11), ("SRV", 5), ("SPR", 25),
];

/// Every id of the contract.
pub fn all_ids() -> impl Iterator<Item = String> {
    FAMILIES
        .iter()
        .flat_map(|&(family, rows)| (1..=rows).map(move |number| format!("{family}-{number:02}")))
}

/// What a row says about its behaviour.
pub enum Status {
    /// These tests show it.
    Tested(Vec<String>),
    /// It has no meaning in Rust, for the reason given.
    Impossible,
    /// Nothing shows it so far.
    NotYet,
}

/// One row.
pub struct Row {
    pub status: Status,
}

/// The rows by id.
pub struct Page {
    pub rows: BTreeMap<String, Row>,
}

impl Page {
    /// Reads every table row whose first cell is an id; complains about what is wrong with the page alone.
    pub fn parse(text: &str, wrong: &mut Vec<String>) -> Self {
        let mut rows = BTreeMap::new();
        for line in text.lines() {
            let Some(inner) = line.strip_prefix('|') else {
                continue;
            };
            let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
            let id = cells[0].trim_end_matches(" ¶");
            if id == "id" || id.starts_with("--") {
                continue;
            }
            let &[_, behaviour, status, last, ""] = cells.as_slice() else {
                wrong.push(format!("{id} does not have four cells"));
                continue;
            };
            if behaviour.is_empty() {
                wrong.push(format!("{id} says no behaviour"));
            }
            let status = read_status(id, status, last, wrong);
            if rows.insert(id.to_owned(), Row { status }).is_some() {
                wrong.push(format!("{id} stands there twice"));
            }
        }
        for id in all_ids().filter(|id| !rows.contains_key(id)) {
            wrong.push(format!("{id} is missing"));
        }
        let known: Vec<String> = all_ids().collect();
        for id in rows.keys().filter(|id| !known.contains(id)) {
            wrong.push(format!("{id} is not an id of the contract"));
        }
        Self { rows }
    }
}

fn read_status(id: &str, status: &str, last: &str, wrong: &mut Vec<String>) -> Status {
    match status {
        "tested" => {
            // Every second piece between backticks is a name.
            let pieces = last.split('`').skip(1).step_by(2);
            let tests: Vec<String> = pieces.map(str::to_owned).collect();
            if tests.is_empty() {
                wrong.push(format!("{id} is tested but names no test"));
            }
            Status::Tested(tests)
        }
        "impossible" => {
            if last.is_empty() {
                wrong.push(format!("{id} is impossible but gives no reason"));
            }
            Status::Impossible
        }
        "not yet" => {
            if !last.is_empty() {
                wrong.push(format!("{id} is not yet tested and has nothing to name"));
            }
            Status::NotYet
        }
        other => {
            wrong.push(format!("{id} has the unknown status {other:?}"));
            Status::NotYet
        }
    }
}

// Not on both drivers: about the check itself.
#[test]
fn the_contract_has_579_rows() {
    assert_eq!(all_ids().count(), 579);
}
