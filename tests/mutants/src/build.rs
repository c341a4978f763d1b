//! Builds the tests with all mutants that compile.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::rewrite::{self, Mutant};
use crate::{Options, fail};

pub struct Executable {
    pub path: PathBuf,
    /// Where its tests run: the folder of its package.
    pub folder: PathBuf,
    /// `PACKAGE/TARGET`; `PACKAGE/lib` are the unit tests.
    pub name: String,
}

pub struct Built {
    pub executables: Vec<Executable>,
    /// Of each mutant: whether it compiles.
    pub viable: Vec<bool>,
    /// Of each mutant: whether its code is not compiled on this system, or has to be constant.
    pub unswitched: Vec<bool>,
}

/// What the compiler said.
#[derive(Default)]
pub struct Messages {
    /// File, offset, line and text of each error.
    pub errors: Vec<(String, usize, usize, String)>,
    compiled: HashSet<usize>,
    pub executables: Vec<Executable>,
    pub succeeded: bool,
}

/// Cargo keeps what was built from files that stay as they are.
pub fn write_if_new(path: &Path, bytes: &[u8]) {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return;
    }
    let folder = path.parent().expect("a file has a folder");
    std::fs::create_dir_all(folder).expect("the copy is ours");
    std::fs::write(path, bytes).unwrap_or_else(|error| fail(&format!("{}: {error}", path.display())));
}

/// The name of a package in its identifier: `path+file:///…/NAME#VERSION`, or `…#NAME@VERSION`.
fn package_name(id: &str) -> &str {
    let (path, version) = id.split_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name,
        None => path.rsplit('/').next().unwrap_or_default(),
    }
}

pub fn cargo(copy: &Path, target: &Path, arguments: &[String]) -> Messages {
    let mut command = Command::new("cargo");
    command.args(arguments).args(["--locked", "--message-format=json"]);
    let output = command.current_dir(copy).env("CARGO_TARGET_DIR", target).output().expect("cargo runs");
    let mut messages = Messages { succeeded: output.status.success(), ..Messages::default() };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let message = &value["message"];
        if let Some(path) = value["executable"].as_str().filter(|_| value["profile"]["test"] == true) {
            let manifest = Path::new(value["manifest_path"].as_str().unwrap_or_default());
            let folder = manifest.parent().unwrap_or(copy).to_owned();
            let is_lib = value["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib"));
            let target = if is_lib { "lib" } else { value["target"]["name"].as_str().unwrap_or_default() };
            let name = format!("{}/{target}", package_name(value["package_id"].as_str().unwrap_or_default()));
            messages.executables.push(Executable { path: path.into(), folder, name });
        }
        let text = message["message"].as_str().unwrap_or_default();
        if message["level"] == "error" {
            let none = Vec::new();
            let spans = message["spans"].as_array().unwrap_or(&none).iter().filter(|span| span["is_primary"] == true);
            messages.errors.extend(spans.map(|span| {
                let number = |field: &str| span[field].as_u64().unwrap_or_default() as usize;
                let file = span["file_name"].as_str().unwrap_or_default().to_owned();
                (file, number("byte_start"), number("line_start"), text.to_owned())
            }));
        }
        if let Some(n) = text.strip_prefix("unused variable: `jtp_mutant_") {
            messages.compiled.extend(n.trim_end_matches('`').parse::<usize>());
        }
    }
    if !messages.succeeded && messages.errors.is_empty() {
        fail(&format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    messages
}

/// Builds until nothing is left that does not compile.
pub fn build(copy: &Path, target: &Path, options: &Options, mutants: &[Mutant]) -> Built {
    let root = format!("{}/src/lib.rs", options.package);
    let mut files: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.file.as_str()).collect();
    files.insert(&root);
    let originals: Vec<_> =
        files.iter().map(|file| (copy.join(file), copy.join(file).with_extension("orig"))).collect();
    for (file, original) in &originals {
        std::fs::copy(file, original).expect("the copy is ours");
    }
    let mut viable = vec![true; mutants.len()];
    let mut constant = HashSet::new();
    let mut in_constants = HashSet::new();
    let mut compiled = HashSet::new();
    let package = &options.package;
    let optimised = ["--config".to_owned(), format!("profile.dev.package.{package}.opt-level=1")];
    let check = ["check", "-p", package, "--lib"].map(str::to_owned);
    let steps = [
        [check.as_slice(), &optimised].concat(),
        [&["test".to_owned(), "--no-run".to_owned()], options.tests.as_slice(), &optimised].concat(),
    ];
    let mut step = 0;
    loop {
        let mut unswitched = HashSet::new();
        for (file, (path, original)) in files.iter().zip(&originals) {
            let here: Vec<_> =
                mutants.iter().enumerate().filter(|(n, mutant)| viable[*n] && mutant.file == *file).collect();
            let mut text = rewrite::rewrite(original, &here, &constant, &mut unswitched);
            if *file == root {
                text += include_str!("switch.rs");
            }
            write_if_new(path, text.as_bytes());
        }
        let messages = cargo(copy, target, &steps[step]);
        if step == 0 {
            compiled = messages.compiled;
        }
        if messages.succeeded {
            step += 1;
            if step == steps.len() {
                let lacks_switch = |n| viable[n] && !compiled.contains(&n) || in_constants.contains(&n);
                let unswitched = (0..mutants.len()).map(lacks_switch).collect();
                return Built { executables: messages.executables, viable, unswitched };
            }
            continue;
        }
        let before = (viable.iter().filter(|viable| **viable).count(), constant.len());
        for (file, offset, line, error) in messages.errors {
            // A function that constants use.
            if let Some(name) = error.strip_prefix("cannot call non-const ").and_then(|text| text.split('`').nth(1)) {
                let name = name.split('<').next().unwrap_or_default().trim_end_matches(':');
                if constant.insert(name.rsplit(':').next().unwrap_or_default().to_owned()) {
                    continue;
                }
            }
            let text = std::fs::read_to_string(copy.join(&file)).unwrap_or_default();
            let mut about = rewrite::marked(&text, offset);
            if about.is_empty() {
                let in_function =
                    |(_, mutant): &(usize, &Mutant)| mutant.file == file && mutant.function.contains(&line);
                about = mutants.iter().enumerate().filter(in_function).map(|(n, _)| n).collect();
            }
            if about.is_empty() {
                println!("{file}:{line}: {error}");
            }
            about.iter().for_each(|n| viable[*n] = false);
            if error.starts_with("cannot call non-const") {
                in_constants.extend(about);
            }
        }
        let after = (viable.iter().filter(|viable| **viable).count(), constant.len());
        println!("{} mutants compile, {} functions stay constant", after.0, after.1);
        if before == after {
            fail("these errors are of no mutant");
        }
    }
}
