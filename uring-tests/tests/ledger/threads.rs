//! The page about threads and the sources agree.
//!
//! **Guarantees.** Every source file that uses what threads share stands in the table of
//! `docs/src/threads.md`, and no other; each row names the models of its file, all of them, or says
//! why there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::scan::{blank, read_sources, tests_in};

/// What crosses threads is written with one of these.
const WORDS: [&str; 10] = [
    "Atomic",
    "Mutex",
    "Condvar",
    "RwLock",
    "OnceLock",
    "LazyLock",
    "mpsc",
    "thread::Builder",
    "thread::spawn",
    "unsafe impl Send",
];

/// The models in each file of the crate, and which files cross threads.
#[derive(Default)]
struct Sources {
    models: BTreeMap<String, BTreeSet<String>>,
    crossing: BTreeSet<String>,
}

impl Sources {
    fn add(&mut self, file: &str, source: &str) {
        let code = blank(source);
        // Models may stand beside the file, which is then the directory's own.
        let owner = file.replace("loom_tests.rs", "mod.rs");
        let tests = tests_in(file, source, false).into_iter();
        let models = tests.map(|test| test.name);
        let models = models.filter(|name| name.starts_with("loom_"));
        self.models.entry(owner).or_default().extend(models);
        let tests = ["mod tests {", "mod loom_tests {"];
        let end = tests.iter().filter_map(|tests| code.find(tests)).min();
        let code = &code[..end.unwrap_or(code.len())];
        if !file.ends_with("loom_tests.rs") && WORDS.iter().any(|word| code.contains(word)) {
            self.crossing.insert(file.to_owned());
        }
    }

    fn read(&mut self, root: &Path, directory: &Path) {
        for entry in std::fs::read_dir(directory).expect("the sources can be read") {
            let path = entry.expect("the sources can be read").path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    self.read(root, &path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).expect("a source is text");
                let file = path.strip_prefix(root).expect("below the root");
                self.add(&file.to_string_lossy(), &source);
            }
        }
    }
}

/// Everything wrong between the page and the sources.
fn disagreements(page: &str, sources: &Sources) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut rows = BTreeSet::new();
    for line in page.lines() {
        let Some(rest) = line.strip_prefix("| `") else {
            continue;
        };
        let (file, rest) = rest.split_once('`').unwrap_or((rest, ""));
        let last = rest.trim_end_matches(['|', ' ']);
        let last = last.rsplit('|').next().unwrap_or("").trim();
        let named = last.split('`').filter(|name| name.starts_with("loom_"));
        let named: BTreeSet<String> = named.map(str::to_owned).collect();
        rows.insert(file.to_owned());
        if named.is_empty() && !last.starts_with("none: ") {
            wrong.push(format!("{file}: no model, and no reason"));
        }
        let there = sources.models.get(file).cloned().unwrap_or_default();
        for name in named.symmetric_difference(&there) {
            wrong.push(format!("{file}: {name} stands only in one of the two"));
        }
    }
    for (file, models) in &sources.models {
        if !models.is_empty() && !rows.contains(file) {
            wrong.push(format!("{file}: its models are not in the table"));
        }
    }
    for file in rows.symmetric_difference(&sources.crossing) {
        wrong.push(format!("{file}: only in the table, or only in the sources"));
    }
    wrong
}

// Not on both drivers: reads files.
#[test]
fn the_page_about_threads_and_the_sources_agree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/src/threads.md"));
    let mut sources = Sources::default();
    sources.read(&root, &root.join("src"));
    let found: usize = sources.models.values().map(BTreeSet::len).sum();
    let all = read_sources(&root.join("src"), false);
    let all = all.iter().filter(|test| test.name.starts_with("loom_"));
    assert_eq!(found, all.count(), "two models of one name in one file");
    let wrong = disagreements(&page.expect("docs/src/threads.md can be read"), &sources);
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

// Not on both drivers: about the check itself.
#[test]
fn every_disagreement_about_threads_is_found() {
    let mut sources = Sources::default();
    sources.add(
        "src/a.rs",
        "use std::sync::Mutex; mod loom_tests { #[test] fn loom_x() {} }",
    );
    sources.add(
        "src/b.rs",
        "// Mutex\nmod tests { use std::sync::Mutex; #[test] fn y() {} }",
    );
    let good = "| `src/a.rs` | what | by | `loom_x` |";
    assert_eq!(disagreements(good, &sources), Vec::<String>::new());
    for (page, complaint) in [
        ("", "its models are not in the table"),
        ("", "only in the table, or only in the sources"),
        (
            "| `src/a.rs` | what | by | `loom_y` |",
            "loom_x stands only in one of the two",
        ),
        (
            "| `src/a.rs` | what | by | `loom_y` |",
            "loom_y stands only in one of the two",
        ),
        ("| `src/a.rs` | what | by | |", "no model, and no reason"),
        (
            "| `src/b.rs` | what | by | none: why |",
            "src/b.rs: only in the table",
        ),
    ] {
        let said = disagreements(page, &sources).join("\n");
        assert!(said.contains(complaint), "{page}: {said:?}");
    }
}
