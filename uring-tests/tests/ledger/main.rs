//! The conformance ledger and the tests agree.
//!
//! **Guarantees.** Every id of the contract stands in `docs/conformance.md` exactly once with a
//! known status; a row that says "tested" names tests that exist and carry its id; a test that
//! carries an id is named by that row; and a test in this crate either runs on both drivers or
//! says why it does not.

mod page;
mod scan;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use page::{Page, Status};
use scan::{Found, read_sources};

/// Everything wrong between a ledger and the tests that were found.
fn disagreements(ledger: &str, tests: &[Found]) -> Vec<String> {
    let mut wrong = Vec::new();
    let page = Page::parse(ledger, &mut wrong);
    let names: BTreeSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    let mut carried: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for test in tests {
        for id in scan::ids(&test.name) {
            if !page.rows.contains_key(&id) {
                wrong.push(format!(
                    "{}: {} carries the unknown id {id}",
                    test.place, test.name
                ));
            }
            carried.entry(id).or_default().insert(&test.name);
        }
        if !test.on_both && !test.excused {
            wrong.push(format!(
                "{}: {} is declared neither in on_both_drivers! nor under a comment \
                 \"// Not on both drivers: reason\"",
                test.place, test.name
            ));
        }
    }
    for (id, row) in &page.rows {
        let named: BTreeSet<&str> = match &row.status {
            Status::Tested(tests) => tests.iter().map(String::as_str).collect(),
            Status::Impossible | Status::NotYet => BTreeSet::new(),
        };
        for name in &named {
            if !names.contains(name) {
                wrong.push(format!("{id} names the test {name}, which does not exist"));
            } else if !scan::ids(name).contains(id) {
                wrong.push(format!(
                    "{id} names the test {name}, which does not carry that id"
                ));
            }
        }
        for name in carried.get(id).into_iter().flatten() {
            if !named.contains(name) {
                wrong.push(format!(
                    "the test {name} exists, but the row of {id} does not name it"
                ));
            }
        }
    }
    wrong
}

// Not on both drivers: reads files.
#[test]
fn the_ledger_and_the_tests_agree() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = std::fs::read_to_string(here.join("../docs/conformance.md"));
    let ledger = read.expect("docs/conformance.md can be read");
    let mut tests = read_sources(&here.join("tests"), true);
    tests.extend(read_sources(&here.join("../src"), false));
    let itself = |test: &Found| test.name == "the_ledger_and_the_tests_agree";
    assert!(tests.iter().any(itself), "the tests were not found");
    let wrong = disagreements(&ledger, &tests);
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

/// A whole ledger in which `row` replaces the row of its id.
fn ledger_with(rows: &[&str]) -> String {
    let replaced = |id: &str| {
        rows.iter()
            .find(|row| row.starts_with(&format!("| {id} |")))
    };
    let all = page::all_ids().map(|id| match replaced(&id) {
        Some(row) => (*row).to_owned(),
        None => format!("| {id} | what | not yet | |"),
    });
    all.collect::<Vec<_>>().join("\n")
}

/// What is wrong with that row when `source` holds the tests.
fn complaints(row: &str, source: &str) -> String {
    let tests = scan::tests_in("x.rs", source, true);
    disagreements(&ledger_with(&[row]), &tests).join("\n")
}

const GOOD: &str = "on_both_drivers! { fn can_17_x(kind: DriverKind) {} }";

// Not on both drivers: about the check itself.
#[test]
fn a_row_and_its_test_agree() {
    assert_eq!(
        complaints("| CAN-17 | what | tested | `can_17_x` |", GOOD),
        ""
    );
    let two = "on_both_drivers! { fn can_17_can_18_x(kind: DriverKind) {} }";
    let rows = [
        "| CAN-17 | what | tested | `can_17_can_18_x` |",
        "| CAN-18 | what | tested | `can_17_can_18_x` |",
    ];
    let tests = scan::tests_in("x.rs", two, true);
    assert_eq!(
        disagreements(&ledger_with(&rows), &tests),
        Vec::<String>::new()
    );
}

// Not on both drivers: about the check itself.
#[test]
fn every_disagreement_is_found() {
    for (row, source, complaint) in [
        (
            "| CAN-17 | what | tested | `can_17_y` |",
            GOOD,
            "which does not exist",
        ),
        ("| CAN-17 | what | not yet | |", GOOD, "does not name it"),
        ("| CAN-17 | what | tested | |", "", "names no test"),
        (
            "| CAN-17 | what | tested | can_17_x |",
            GOOD,
            "names no test",
        ),
        ("| CAN-17 | what | impossible | |", "", "gives no reason"),
        (
            "| CAN-17 | what | not yet | later |",
            "",
            "has nothing to name",
        ),
        (
            "| CAN-17 | what | done | `can_17_x` |",
            GOOD,
            "unknown status",
        ),
        ("| CAN-17 | what | tested |", GOOD, "four cells"),
        ("| CAN-17 |  | not yet | |", "", "says no behaviour"),
        (
            "| CAN-18 | what | tested | `can_17_x` |",
            GOOD,
            "does not carry that id",
        ),
        (
            "| CAN-17 | what | not yet | |",
            "on_both_drivers! { fn can_77_x(kind: DriverKind) {} }",
            "unknown id CAN-77",
        ),
        (
            "| CAN-17 | what | tested | `can_17_x` |",
            "#[test] fn can_17_x() {}",
            "neither in on_both_drivers!",
        ),
    ] {
        let said = complaints(row, source);
        assert!(said.contains(complaint), "{row} with {source}: {said:?}");
    }
}

// Not on both drivers: about the check itself.
#[test]
fn missing_doubled_and_unknown_rows_are_found() {
    let whole = ledger_with(&[]);
    let missing = whole.replace("| CAN-17 | what | not yet | |\n", "");
    assert_eq!(disagreements(&missing, &[]), ["CAN-17 is missing"]);
    let doubled = format!("{whole}\n| CAN-17 ¶ | what | not yet | |");
    assert_eq!(disagreements(&doubled, &[]), ["CAN-17 stands there twice"]);
    let unknown = format!("{whole}\n| CAN-20 | what | not yet | |");
    assert_eq!(
        disagreements(&unknown, &[]),
        ["CAN-20 is not an id of the contract"]
    );
}
