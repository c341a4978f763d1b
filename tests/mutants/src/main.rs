//! Mutation testing with a single build. `cargo mutants` lists the mutants of a crate; here all of them are compiled into
//! a copy of the workspace, each behind a switch that is read when a test runs (`rewrite`). A test then runs against a
//! mutant without a build, and only against the mutants whose code it reaches (`run`).
//!
//! ```text
//! tests/mutants/run jtp-core [--file GLOB]... [--skip TEXT]... [--again] [--jobs N] [-- ARGUMENTS OF cargo test]
//! ```
//!
//! The results are in `target/mutants/CRATE.txt`: a line for each mutant with its outcome, the mutant, and the test that
//! caught it. `equivalent.txt` lists the mutants that no test can catch, with the reasons; `survivors.txt` those that no test
//! catches yet. Any other survivor is printed, and the run fails. `--again` runs only those that
//! were not caught the last time; `--skip` leaves out the tests whose name contains a text.
//!
//! `tests/mutants/run faults` plants the faults that `faults/` lists instead: see `planted`.

mod build;
mod planted;
mod rewrite;
mod run;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// What the tests said about a mutant.
#[derive(Clone, PartialEq)]
enum Outcome {
    Caught(String),
    Timeout(String),
    Survived,
    /// No test runs its code. (Tests in documentation are not run.)
    Unreached,
    /// Survived, and `equivalent.txt` says why.
    Argued,
    /// Does not compile.
    Unviable,
    /// In a constant, a type or code of another system: no switch can be there.
    Unswitched,
}

impl Outcome {
    fn columns(&self) -> (&'static str, &str) {
        match self {
            Self::Caught(by) => ("caught", by),
            Self::Timeout(by) => ("timeout", by),
            Self::Survived => ("survived", ""),
            Self::Unreached => ("unreached", ""),
            Self::Argued => ("argued", ""),
            Self::Unviable => ("unviable", ""),
            Self::Unswitched => ("unswitched", ""),
        }
    }
}

struct Options {
    package: String,
    /// Passed to `cargo mutants`.
    files: Vec<String>,
    again: bool,
    skip: Vec<String>,
    jobs: usize,
    tests: Vec<String>,
}

fn options() -> Options {
    let mut arguments = std::env::args().skip(1);
    let package = arguments.next().unwrap_or_else(|| fail("usage: tests/mutants/run CRATE [-- ARGUMENTS]"));
    let (files, skip, tests) = (Vec::new(), Vec::new(), Vec::new());
    let mut options = Options { package, files, again: false, skip, jobs: 1, tests };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--file" => options.files.extend(["--file".to_owned(), arguments.next().unwrap_or_default()]),
            "--skip" => options.skip.extend(arguments.next()),
            "--again" => options.again = true,
            "--jobs" => options.jobs = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            "--" => options.tests.extend(arguments.by_ref()),
            other => fail(&format!("unknown option {other}")),
        }
    }
    if options.tests.is_empty() {
        options.tests = ["-p", &options.package, "--lib", "--tests"].map(str::to_owned).to_vec();
    }
    options
}

fn fail(message: &str) -> ! {
    eprintln!("mutants: {message}");
    exit(2)
}

/// The results of `work` for each number below `count`, on several threads.
fn in_parallel<T: Send>(jobs: usize, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let run = || {
        loop {
            let n = next.fetch_add(1, Relaxed);
            if n >= count {
                return;
            }
            let result = work(n);
            results.lock().expect("no thread panics").insert(n, result);
        }
    };
    std::thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(run))));
    results.into_inner().expect("no thread panics").into_values().collect()
}

/// The workspace, and where builds go.
fn folders() -> (PathBuf, PathBuf) {
    let root = PathBuf::from(output_of(Command::new("git").args(["rev-parse", "--show-toplevel"])).trim());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    (root, target)
}

/// The output of a command that has to succeed.
fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| fail(&format!("{command:?}: {error}")));
    if !output.status.success() {
        fail(&format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Copies all files that git knows, some with a `changed` text, and leaves alone those that are the same: their crates need
/// no new build.
fn copy_workspace(root: &Path, copy: &Path, changed: &BTreeMap<String, String>) {
    let files = output_of(
        Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root),
    );
    for file in files.lines().filter(|file| root.join(file).is_file()) {
        let (from, to) = (root.join(file), copy.join(file));
        match changed.get(file) {
            Some(text) => build::write_if_new(&to, text.as_bytes()),
            None => build::write_if_new(&to, &std::fs::read(&from).expect("a file of the workspace can be read")),
        }
        let permissions = std::fs::metadata(&from).expect("it was read").permissions();
        std::fs::set_permissions(&to, permissions).expect("the copy is ours");
    }
}

/// The mutants that a file lists: its lines that are not indented.
fn listed(root: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root.join("tests/mutants").join(file)).unwrap_or_default();
    text.lines().filter(|line| !line.starts_with([' ', '#']) && !line.is_empty()).map(str::to_owned).collect()
}

/// The outcome of each mutant in an earlier file of results.
fn earlier(results: &Path) -> HashMap<String, Outcome> {
    let text = std::fs::read_to_string(results).unwrap_or_default();
    let outcome = |line: &str| {
        let mut columns = line.splitn(4, '\t');
        let outcome = columns.next()?;
        let by = columns.next()?.to_owned();
        let known = [Outcome::Caught(by.clone()), Outcome::Timeout(by), Outcome::Unviable, Outcome::Unswitched];
        let outcome = known.into_iter().find(|known| known.columns().0 == outcome)?;
        Some((columns.nth(1)?.to_owned(), outcome))
    };
    text.lines().filter_map(outcome).collect()
}

fn main() {
    if std::env::args().nth(1).is_some_and(|first| first == "faults") {
        return planted::main();
    }
    let options = options();
    let (root, target) = folders();
    let (copy, results) = (target.join("mutants/workspace"), target.join(format!("mutants/{}.txt", options.package)));
    let mutants = rewrite::list(&root, &options.package, &options.files);
    println!("{} mutants", mutants.len());
    copy_workspace(&root, &copy, &BTreeMap::new());

    let built = build::build(&copy, &target, &options, &mutants);
    let (equivalent, survivors) = (listed(&root, "equivalent.txt"), listed(&root, "survivors.txt"));
    let known = if options.again { earlier(&results) } else { HashMap::new() };
    let wanted = |test: &str| !options.skip.iter().any(|text| test.contains(text.as_str()));
    let tests = run::Tests::measure(built.executables, (&target, None), options.jobs, wanted);
    let is_new = AtomicBool::new(false);
    let outcome_of = |n: usize| {
        let mutant = &mutants[n];
        let outcome = match known.get(&mutant.key) {
            _ if built.unswitched[n] => Outcome::Unswitched,
            _ if !built.viable[n] => Outcome::Unviable,
            Some(outcome) => outcome.clone(),
            None => tests.outcome(n, |_| true),
        };
        let is_argued = equivalent.contains(&mutant.key);
        let is_listed = is_argued || survivors.contains(&mutant.key);
        match outcome {
            Outcome::Survived | Outcome::Unreached if is_argued => return Outcome::Argued,
            Outcome::Survived | Outcome::Unreached if !is_listed => {
                is_new.store(true, Relaxed);
                println!("{}: {}", outcome.columns().0, mutant.key);
            }
            Outcome::Caught(_) | Outcome::Timeout(_) if is_listed => {
                println!("caught, although listed: {}", mutant.key)
            }
            _ => {}
        }
        outcome
    };
    let file = std::fs::File::create(&results).expect("the results can be written");
    let outcomes = in_parallel(options.jobs, mutants.len(), |n| {
        let outcome = outcome_of(n);
        let ((word, by), mutant) = (outcome.columns(), &mutants[n]);
        let line = format!("{word}\t{by}\t{}\t{}\n", mutant.line, mutant.key);
        (&file).write_all(line.as_bytes()).expect("the results can be written");
        outcome
    });
    let mut counts = BTreeMap::new();
    for outcome in &outcomes {
        *counts.entry(outcome.columns().0).or_insert(0) += 1;
    }
    println!("{}: {} mutants: {counts:?}; {}", options.package, mutants.len(), results.display());
    if is_new.into_inner() {
        exit(1);
    }
}
