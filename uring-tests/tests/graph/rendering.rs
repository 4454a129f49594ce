//! Tables and trees of graphs made by hand.

use ringloop::debug::{TaskGraph, TaskNode, Waiting};
use ringloop::task::{TaskId, TaskState, WaitsFor};
use std::time::Duration;

fn ids<const N: usize>() -> [TaskId; N] {
    std::array::from_fn(|_| TaskId::unique())
}

fn task(id: TaskId, name: &str, awaited_by: &[TaskId]) -> TaskNode {
    TaskNode {
        id,
        name: name.to_owned(),
        state: TaskState::Pending,
        body: Some("app::work::{{closure}}::{{closure}}"),
        waits: vec![Waiting {
            what: WaitsFor::Sleep,
            age: None,
        }],
        awaited_by: awaited_by.to_vec(),
    }
}

fn graph(tasks: impl IntoIterator<Item = TaskNode>) -> TaskGraph {
    TaskGraph {
        tasks: tasks.into_iter().collect(),
    }
}

/// The tree without the states, bodies and ids that all tasks of these tests have alike.
fn tree(graph: &TaskGraph) -> Vec<String> {
    let text = graph.tree().to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in &mut lines {
        *line = line.replace(" [waiting] app::work: sleep", "");
        for task in &graph.tasks {
            *line = line.replace(&format!(" ({})", task.id), "");
        }
    }
    lines
}

// Not on both drivers: there is no loop.
#[test]
fn grf_04_an_empty_graph_has_a_head_and_no_lines() {
    let empty = TaskGraph::default();
    assert_eq!(empty.tree().to_string(), "");
    let table = empty.table().to_string();
    assert_eq!(
        table.split_whitespace().collect::<Vec<_>>().join(" "),
        "id name state waits for awaited by future"
    );
    assert!(empty.cycles().is_empty());
}

// Not on both drivers: there is no loop.
#[test]
fn grf_04_independent_tasks_stand_at_the_left() {
    let [a, b] = ids();
    let mut graph = graph([task(a, "first", &[]), task(b, "second", &[])]);
    assert_eq!(tree(&graph), ["first", "second"]);
    // What this crate wraps around a future is not shown.
    graph.tasks[1].body =
        Some("ringloop::a::Child<ringloop::b::Timeout<app::work<u8, u8>::{{closure}}>, u8>");
    assert_eq!(
        tree(&graph),
        ["first", "second [waiting] app::work<u8, u8>: sleep"]
    );
    let full = graph.tree().to_string();
    let line = full.lines().next().unwrap();
    assert_eq!(line, format!("first ({a}) [waiting] app::work: sleep"));
    let table = graph.table().to_string();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3);
    let a = a.to_string();
    assert_eq!(rows[1], [&a, "first", "waiting", "sleep", "app::work"]);
}

// Not on both drivers: there is no loop.
#[test]
fn grf_04_chains_stand_below_who_waits() {
    let [a, b, c, d] = ids();
    let graph = graph([
        task(a, "main", &[]),
        task(b, "group", &[a]),
        task(c, "left", &[b]),
        task(d, "right", &[b]),
    ]);
    let expected = ["main", "└── group", "    ├── left", "    └── right"];
    assert_eq!(tree(&graph), expected);
    let table = graph.table().to_string();
    let right = table.lines().last().unwrap();
    assert!(
        right.contains("sleep") && right.contains("group"),
        "{right}"
    );
}

/// Awaited by two, and named twice by the same.
// Not on both drivers: there is no loop.
#[test]
fn grf_04_duplicates_are_shown_in_full_once() {
    let [a, b, c] = ids();
    let graph = graph([
        task(a, "one", &[]),
        task(b, "two", &[]),
        task(c, "shared", &[a, b, a]),
    ]);
    let expected = ["one", "└── shared", "two", "└── shared: see above"];
    assert_eq!(tree(&graph), expected);
    assert!(graph.cycles().is_empty());
}

/// No name, two of the same name, one of several lines; awaited by, and waiting for, tasks that are gone.
// Not on both drivers: there is no loop.
#[test]
fn grf_04_missing_names_and_missing_tasks_are_shown_by_their_ids() {
    let [a, b, c, gone] = ids();
    let mut waits = task(b, "same", &[gone]);
    waits.waits[0].what = WaitsFor::Task(gone);
    waits.waits.push(Waiting {
        what: WaitsFor::Io {
            name: "recv",
            fd: 7,
        },
        age: Some(Duration::from_millis(1234)),
    });
    let graph = graph([task(a, "", &[]), waits, task(c, "same", &[]), {
        let mut odd = task(TaskId::unique(), "two\nlines", &[]);
        (odd.body, odd.waits) = (None, Vec::new());
        odd
    }]);
    let lines = tree(&graph);
    assert_eq!(lines[0], a.to_string());
    assert_eq!(
        lines[1],
        format!(
            "same [waiting] app::work: {gone} (not in this loop), recv on descriptor 7 for 1.234 s"
        )
    );
    assert_eq!(lines[2], "same");
    assert_eq!(
        lines[3],
        "two\\nlines [ready, or at a foreign await] a foreign task"
    );
    assert_eq!(graph.table().to_string().lines().count(), 5);
    let by = graph.table().to_string();
    assert!(by.contains(&gone.to_string()), "{by}");
}

// Not on both drivers: there is no loop.
#[test]
fn grf_04_a_task_that_waits_for_itself_is_a_cycle() {
    let [a] = ids();
    let graph = graph([task(a, "self", &[a])]);
    assert_eq!(graph.cycles(), [vec![a]]);
    assert_eq!(
        tree(&graph),
        ["self", "└── self: cycle", "cycle: self -> self"]
    );
}

/// One that nobody outside waits for, and one that hangs on a chain; two circles share a task.
// Not on both drivers: there is no loop.
#[test]
fn grf_04_cycles_are_reported_and_end_the_tree() {
    let [a, b, c, root] = ids();
    let graph = graph([
        task(a, "a", &[b, c, root]),
        task(b, "b", &[a]),
        task(c, "c", &[a]),
        task(root, "root", &[]),
    ]);
    assert_eq!(graph.cycles(), [vec![a, b], vec![a, c]]);
    let expected = [
        "root",
        "└── a",
        "    ├── b",
        "    │   └── a: cycle",
        "    └── c",
        "        └── a: cycle",
        "cycle: a -> b -> a",
        "cycle: a -> c -> a",
    ];
    assert_eq!(tree(&graph), expected);
    let [x, y] = ids();
    let closed = self::graph([task(x, "x", &[y]), task(y, "y", &[x])]);
    let expected = ["x", "└── y", "    └── x: cycle", "cycle: x -> y -> x"];
    assert_eq!(tree(&closed), expected);
    // And a call graph ends there.
    let up = closed.call_graph(x).unwrap();
    assert_eq!(up.awaited_by[0].task.id, y);
    assert_eq!(up.awaited_by[0].awaited_by[0].task.id, x);
    assert!(up.awaited_by[0].awaited_by[0].awaited_by.is_empty());
}

/// However deep; neither the stack nor the time runs out.
// Not on both drivers: there is no loop.
#[test]
fn grf_04_very_long_chains_are_cut() {
    let all: [TaskId; 5000] = ids();
    let graph = graph(all.iter().enumerate().map(|(at, &id)| {
        let by = at.checked_sub(1).map(|by| all[by]);
        task(id, "", by.as_slice())
    }));
    let text = graph.tree().to_string();
    assert!(text.lines().count() >= 5000);
    assert!(graph.cycles().is_empty());
    assert_eq!(graph.table().to_string().lines().count(), 5001);
}
