//! Plants faults that were found once, or that would break a guarantee, and names the tests that find them.
//!
//! ```text
//! tests/mutants/run faults [--only NAME OR LIST]... [--jobs N] [--write] [--check]
//! ```
//!
//! `faults/*.txt` list them, one a paragraph: a name and the guarantee that the fault breaks, a file, the text to replace
//! (`-`) and its replacement (`+`), and which tests find it:
//!
//! ```text
//! busy-name: A step waits while another one uses its name.
//!   jtp-sync/src/planner/decide.rs
//! - self.busy.contains_key(&*folded)
//! + false
//!   found by jtp-sync/laws
//! ```
//!
//! The text has to be in the file exactly once; white space does not matter. An expression or a statement is chosen when a
//! test runs, all with one build. What cannot be replaced that way has the word `FAULT` in its replacement: whether the fault
//! is active. A paragraph may replace several texts. `found by` has beginnings of names of tests. `--write` replaces
//! them with the test that has found the fault, which is the only one to run the next time. A fault that no test can find
//! has `found by no test:` and the reason. `--check` only looks for the
//! texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::Mutex;

use crate::{Outcome, build, copy_workspace, fail, folders, in_parallel, rewrite, run};

struct Fault {
    name: String,
    guarantee: String,
    changes: Vec<Change>,
    /// Beginnings of names of tests.
    tests: Vec<String>,
    /// Why no test can find it.
    argued: Option<String>,
    list: PathBuf,
}

#[derive(Default)]
struct Change {
    file: String,
    old: String,
    new: String,
}

#[derive(Default)]
struct Options {
    only: Vec<String>,
    jobs: usize,
    write: bool,
    check: bool,
}

fn options() -> Options {
    let mut options = Options { jobs: 1, ..Options::default() };
    let mut arguments = std::env::args().skip(2);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => options.only.extend(arguments.next()),
            "--jobs" => options.jobs = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            "--write" => options.write = true,
            "--check" => options.check = true,
            other => fail(&format!("unknown option {other}")),
        }
    }
    options
}

/// The faults of all lists, which are ordered by name.
fn read_lists(folder: &Path) -> Vec<Fault> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| fail(&format!("{}: {error}", folder.display())));
    let mut lists: Vec<_> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    lists.sort();
    let mut faults: Vec<Fault> = Vec::new();
    for list in lists {
        let text = std::fs::read_to_string(&list).expect("a list of faults can be read");
        for paragraph in text.split("\n\n") {
            let lines = paragraph.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
            faults.extend(parse(&list, lines));
        }
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = faults.iter().find(|fault| !names.insert(&fault.name)) {
        fail(&format!("two faults are named {}", twice.name));
    }
    faults
}

fn parse<'a>(list: &Path, mut lines: impl Iterator<Item = &'a str>) -> Option<Fault> {
    let first = lines.next()?;
    let wrong = |line: &str| -> ! { fail(&format!("{}: {line}", list.display())) };
    let (name, guarantee) = first.split_once(": ").unwrap_or_else(|| wrong(first));
    let (mut file, mut changes, mut tests, mut argued) = ("", Vec::<Change>::new(), Vec::new(), None);
    for line in lines {
        let (kind, rest) = line.split_at(1);
        match (kind, changes.last_mut()) {
            ("-", Some(change)) if change.new.is_empty() && change.file == file => change.old += &format!("\n{rest}"),
            ("-", _) => changes.push(Change { file: file.to_owned(), old: rest.to_owned(), new: String::new() }),
            ("+", Some(change)) => change.new += &format!("{rest}\n"),
            _ => match line.trim().strip_prefix("found by ") {
                Some(reason) if reason.starts_with("no test: ") => argued = Some(reason.to_owned()),
                Some(names) => tests = names.split(' ').map(str::to_owned).collect(),
                None if line.starts_with("  ") => file = line.trim(),
                None => wrong(line),
            },
        }
    }
    if changes.is_empty() || tests.is_empty() == argued.is_none() {
        wrong(first);
    }
    Some(Fault {
        name: name.to_owned(),
        guarantee: guarantee.to_owned(),
        changes,
        tests,
        argued,
        list: list.to_owned(),
    })
}

/// Where a text is in a source, if it is there exactly once. White space does not matter.
fn find(source: &str, text: &str) -> Result<Range<usize>, usize> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some(&first) = words.first() else { return Err(0) };
    let end_of = |start: usize| {
        words.iter().skip(1).try_fold(start + first.len(), |at, word| {
            let rest = source[at..].trim_start();
            let has_space = rest.len() < source.len() - at;
            (has_space && rest.starts_with(word)).then(|| source.len() - rest.len() + word.len())
        })
    };
    let found: Vec<_> = source.match_indices(first).filter_map(|(at, _)| Some(at..end_of(at)?)).collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        found => Err(found.len()),
    }
}

fn switch(n: usize) -> String {
    format!("crate::jtp_mutant::on({n})")
}

/// What stands in place of a text, given all faults that replace it.
fn switched(old: &str, changes: &[(usize, &Change)]) -> Option<String> {
    let new = |(n, change): &(usize, &Change)| {
        rewrite::mark(&n.to_string(), &change.new.trim().replace("FAULT", &switch(*n)))
    };
    match changes {
        [change] if change.1.new.contains("FAULT") => return Some(new(change)),
        changes if changes.iter().any(|(_, change)| change.new.contains("FAULT")) => return None,
        _ => {}
    }
    let mut text = String::new();
    for change in changes {
        let _ = write!(text, "if {} {{ {} }} else ", switch(change.0), new(change));
    }
    Some(match old.ends_with([';', '}']) {
        true => format!("{text}{{ {old} }}"),
        false => format!("({text}{{ {old} }})"),
    })
}

/// By the beginning and the end of a text: what replaces it, with the numbers of the faults.
type Places<'a> = BTreeMap<(usize, usize), Vec<(usize, &'a Change)>>;

/// The sources with all faults, by their names.
fn plant(root: &Path, faults: &[Fault]) -> BTreeMap<String, String> {
    let mut by_file: BTreeMap<&str, Places<'_>> = BTreeMap::new();
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = 0;
    for (n, fault) in faults.iter().enumerate() {
        for change in &fault.changes {
            let read = || std::fs::read_to_string(root.join(&change.file)).unwrap_or_default();
            let source = sources.entry(change.file.clone()).or_insert_with(read);
            match find(source, &change.old) {
                Ok(Range { start, end }) => {
                    by_file.entry(&change.file).or_default().entry((start, end)).or_default().push((n, change));
                }
                Err(times) => {
                    println!("{}: found {times} times in {}: {}", fault.name, change.file, change.old.trim());
                    wrong += 1;
                }
            }
        }
    }
    for (file, changes) in &by_file {
        let text = sources.get_mut(*file).expect("it was read");
        let mut after = usize::MAX;
        for ((start, end), changes) in changes.iter().rev() {
            match switched(&text[*start..*end], changes).filter(|_| *end <= after) {
                Some(switched) => text.replace_range(start..end, &switched),
                None => {
                    println!("{}: another fault replaces a part of the same text", faults[changes[0].0].name);
                    wrong += 1;
                }
            }
            after = *start;
        }
    }
    if wrong > 0 {
        fail(&format!("{wrong} faults cannot be planted"));
    }
    // Each crate has a switch of its own.
    let crates: BTreeSet<_> = by_file.keys().filter_map(|file| file.split('/').next()).collect();
    for name in crates {
        let file = format!("{name}/src/lib.rs");
        let read = || std::fs::read_to_string(root.join(&file)).unwrap_or_default();
        *sources.entry(file.clone()).or_insert_with(read) += include_str!("switch.rs");
    }
    sources
}

/// Builds the programs, and all targets that have tests for a `chosen` fault.
fn build(copy: &Path, target: &Path, faults: &[Fault], chosen: &[usize]) -> Vec<build::Executable> {
    // A test of the programs' package: Cargo builds the programs for it.
    let mut targets = BTreeSet::from([("jtp-cli", "limits")]);
    for prefix in chosen.iter().flat_map(|n| &faults[*n].tests) {
        let name = prefix.split("::").next().unwrap_or_default();
        targets.insert(name.split_once('/').unwrap_or_else(|| fail(&format!("no package and target: {prefix}"))));
    }
    let mut arguments = BTreeSet::new();
    for (package, target) in targets {
        arguments.insert(format!("--package={package}"));
        arguments.insert(if target == "lib" { "--lib".to_owned() } else { format!("--test={target}") });
    }
    let arguments: Vec<_> = ["test".to_owned(), "--no-run".to_owned()].into_iter().chain(arguments).collect();
    let messages = build::cargo(copy, target, &arguments);
    for (file, offset, line, error) in &messages.errors {
        let text = std::fs::read_to_string(copy.join(file)).unwrap_or_default();
        let about = rewrite::marked(&text, *offset);
        let names: Vec<_> = about.iter().map(|n| faults[*n].name.as_str()).collect();
        println!("{file}:{line}: {}: {error}", names.join(", "));
    }
    if !messages.succeeded {
        fail("the faults do not compile");
    }
    messages.executables
}

/// Replaces what is to find a fault with what has found it.
fn write_finder(fault: &Fault, test: &str) {
    let text = std::fs::read_to_string(&fault.list).expect("the list was read");
    let find = |from: usize, what: &str| Some(from + text[from..].find(what)?);
    let start = find(0, &format!("{}: {}\n", fault.name, fault.guarantee));
    // Unless somebody has changed the list meanwhile.
    let Some(line) = start.and_then(|start| find(start, "  found by ")) else { return };
    let end = text[line..].find('\n').map_or(text.len(), |end| line + end);
    let text = format!("{}  found by {test}{}", &text[..line], &text[end..]);
    std::fs::write(&fault.list, text).expect("the list can be written");
}

pub fn main() {
    let options = options();
    let (root, target) = folders();
    let faults = read_lists(&root.join("tests/mutants/faults"));
    let sources = plant(&root, &faults);
    if options.check {
        return println!("{} faults can be planted", faults.len());
    }
    let copy = target.join("mutants/workspace");
    copy_workspace(&root, &copy, &sources);
    let is_chosen = |fault: &Fault| {
        let list = fault.list.file_stem().unwrap_or_default();
        let is_named = |only: &String| *only == fault.name || list == only.as_str();
        options.only.is_empty() || options.only.iter().any(is_named)
    };
    let chosen: Vec<usize> = (0..faults.len()).filter(|n| is_chosen(&faults[*n])).collect();
    println!("{} faults", chosen.len());

    let executables = build(&copy, &target, &faults, &chosen);
    let names = |fault: &Fault, test: &str| fault.tests.iter().any(|prefix| test.starts_with(prefix.as_str()));
    let wanted = |test: &str| chosen.iter().any(|n| names(&faults[*n], test));
    let tests = run::Tests::measure(executables, (&target, Some(target.join("debug"))), options.jobs, wanted);

    let writing = Mutex::new(());
    let outcomes = in_parallel(options.jobs, chosen.len(), |at| {
        let (n, fault) = (chosen[at], &faults[chosen[at]]);
        let outcome = match &fault.argued {
            Some(_) => Outcome::Argued,
            None => tests.outcome(n, |test| names(fault, test)),
        };
        let (word, by) = outcome.columns();
        println!("{word:10} {:40} {by}", fault.name);
        if let (Outcome::Caught(by) | Outcome::Timeout(by), true) = (&outcome, options.write) {
            let _one_at_a_time = writing.lock().expect("no thread panics");
            write_finder(fault, by);
        }
        outcome
    });

    let results = target.join("mutants/faults.md");
    let mut table = "| fault | guarantee | found by |\n|---|---|---|\n".to_owned();
    for (fault, outcome) in chosen.iter().map(|n| &faults[*n]).zip(&outcomes) {
        let found = match outcome {
            Outcome::Caught(by) => by.clone(),
            Outcome::Timeout(by) => format!("{by} (does not end)"),
            Outcome::Argued => fault.argued.clone().unwrap_or_default(),
            other => format!("**{}**", other.columns().0),
        };
        let _ = writeln!(table, "| {} | {} | {found} |", fault.name, fault.guarantee);
    }
    std::fs::write(&results, table).expect("the results can be written");
    let is_found = |outcome: &&Outcome| matches!(outcome, Outcome::Caught(_) | Outcome::Timeout(_));
    let found = outcomes.iter().filter(is_found).count();
    println!("{found} of {} faults are found; {}", outcomes.len(), results.display());
    if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Survived | Outcome::Unreached)) {
        exit(1);
    }
}
