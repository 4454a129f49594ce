//! Finds the tests in Rust sources, without compiling them.
//!
//! Comments and literals are blanked first, so that braces and names inside them do not count.

use std::path::Path;

/// A test function.
pub struct Found {
    pub name: String,
    /// File and line.
    pub place: String,
    /// Declared in `on_both_drivers!`, or a unit test, of which that is not asked.
    pub on_both: bool,
    /// Stands under a comment that says why it is not bound to a driver.
    pub excused: bool,
}

/// The ids that a test's name begins with: `loop_01_loop_02_x` carries LOOP-01 and LOOP-02.
pub fn ids(name: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut parts = name.split('_');
    while let (Some(family), Some(number)) = (parts.next(), parts.next()) {
        let is_family = !family.is_empty() && family.bytes().all(|byte| byte.is_ascii_lowercase());
        let is_number = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
        if !is_family || !is_number {
            break;
        }
        ids.push(format!("{}-{number}", family.to_ascii_uppercase()));
    }
    ids
}

/// The tests of every source file below `directory`; `integration` ones must run on both drivers.
pub fn read_sources(directory: &Path, integration: bool) -> Vec<Found> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(directory).expect("the sources can be read");
    for entry in entries {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            found.extend(read_sources(&path, integration));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).expect("a source is text");
            found.extend(tests_in(&path.to_string_lossy(), &source, integration));
        }
    }
    found
}

/// The tests in one source.
pub fn tests_in(file: &str, source: &str, integration: bool) -> Vec<Found> {
    let code = blank(source);
    let mut found = Vec::new();
    let mut push = |at: usize, on_both: bool, excused: bool| {
        let Some(name) = function_name(&code[at..]) else {
            return;
        };
        let line = 1 + code[..at].matches('\n').count();
        found.push(Found {
            name: name.to_owned(),
            place: format!("{file}:{line}"),
            on_both: on_both || !integration,
            excused,
        });
    };
    for (at, _) in code.match_indices("#[test]") {
        push(at, false, is_excused(source, at));
    }
    for (at, _) in code.match_indices("on_both_drivers!") {
        let Some(open) = code[at..].find(['{', '(', '[']).map(|offset| at + offset) else {
            continue;
        };
        let mut depth = 0;
        for (offset, byte) in code.bytes().enumerate().skip(open) {
            match byte {
                b'{' | b'(' | b'[' => depth += 1,
                b'}' | b')' | b']' => depth -= 1,
                b'f' if depth == 1 && starts_function(&code, offset) => push(offset, true, false),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// Whether the word at `at` is `fn`.
fn starts_function(code: &str, at: usize) -> bool {
    let before = code[..at].chars().next_back().unwrap_or(' ');
    code[at..].starts_with("fn ") && !before.is_alphanumeric() && before != '_'
}

/// The name of the first function declared in `code`.
fn function_name(code: &str) -> Option<&str> {
    let mut places = code.match_indices("fn ").map(|(at, _)| at);
    let at = places.find(|&at| starts_function(code, at))?;
    let rest = code[at + 3..].trim_start();
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_')?;
    Some(&rest[..end])
}

/// Whether a comment above the line at `at`, or in the file's header, gives a reason not to run on
/// both drivers.
fn is_excused(source: &str, at: usize) -> bool {
    let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
    let above = source[..line].lines().rev().map(str::trim);
    let mut above = above.take_while(|line| line.starts_with("//") || line.starts_with("#["));
    let mut header = source.lines().take_while(|line| line.starts_with("//!"));
    above.any(|line| gives_reason(line, "//")) || header.any(|line| gives_reason(line, "//!"))
}

fn gives_reason(line: &str, comment: &str) -> bool {
    line.strip_prefix(comment)
        .and_then(|text| text.strip_prefix(" Not on both drivers: "))
        .is_some_and(|reason| !reason.is_empty())
}

/// The same text with comments and the insides of literals as blanks; lines stay lines.
pub fn blank(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let word_before = code.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            string(rest)
        } else if !word_before && (rest.starts_with("r\"") || rest.starts_with("r#")) {
            raw_string(rest)
        } else if first == '\'' {
            character(rest)
        } else {
            0
        };
        if len == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        // As many bytes as before, so that offsets stay those of the source.
        for byte in rest[..len].bytes() {
            code.push(if byte == b'\n' { '\n' } else { ' ' });
        }
        rest = &rest[len..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`; 0 for a raw identifier.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|&byte| byte == b'#').count();
    let open = 1 + hashes;
    if !text[open..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = open + 1;
    text[body..]
        .find(&close)
        .map_or(text.len(), |at| body + at + close.len())
}

/// A character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    match letters.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |at| 3 + at + 1),
        Some(_) => match letters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

// Not on both drivers: about the check itself.
#[test]
fn ids_are_read_from_names() {
    assert_eq!(ids("loop_01_loop_02_runs"), ["LOOP-01", "LOOP-02"]);
    assert_eq!(ids("can_17"), ["CAN-17"]);
    assert!(ids("a_test_of_10_things").is_empty());
}

// Not on both drivers: about the check itself.
#[test]
fn comments_and_literals_do_not_count() {
    let source = r##"
        // #[test] fn no_1() {}
        /* on_both_drivers! { /* nested */ fn no_2(kind: K) {} } */
        const A: (&str, char, &str) = ("#[test] fn no_3() {} \" {", '{', r#"fn no_4() { " "#);
        fn helper<'a>(text: &'a str) -> char { '\'' }
        on_both_drivers! {
            /// Comment with } in it.
            fn yes_1(kind: DriverKind) { fn inner() {} let _ = '}'; }
            fn yes_2(kind: DriverKind) -> io::Result<()> { Ok(()) }
        }
        // Not on both drivers: for a reason.
        #[test]
        fn yes_3() {}

        #[test]
        fn yes_4() {}
    "##;
    let found = tests_in("x.rs", source, true);
    let seen: Vec<_> = found
        .iter()
        .map(|test| (test.name.as_str(), test.on_both, test.excused))
        .collect();
    let expected = [
        ("yes_3", false, true),
        ("yes_4", false, false),
        ("yes_1", true, false),
        ("yes_2", true, false),
    ];
    assert_eq!(seen, expected);
    let header = format!("//! Not on both drivers: for a reason.\n{source}");
    assert!(
        tests_in("x.rs", &header, true)
            .iter()
            .all(|test| test.on_both || test.excused)
    );
    assert!(
        tests_in("x.rs", source, false)
            .iter()
            .all(|test| test.on_both)
    );
}
