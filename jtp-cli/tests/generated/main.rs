//! Checks that the man pages in `man/`, the shell completions in `completions/`, and the tables of options in README.md
//! and `docs/` match the command line definitions.
//! `UPDATE=1 cargo test -p jtp-cli --test generated` regenerates them.

mod tables;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use jtp_cli::client_args::ClientArgs;
use jtp_cli::server_args::ServerArgs;

const SHELLS: [Shell; 4] = [Shell::Bash, Shell::Fish, Shell::PowerShell, Shell::Zsh];

fn programs() -> [Command; 2] {
    [ClientArgs::command(), ServerArgs::command()]
}

/// Compares a file with its expected content, or writes it if `UPDATE` is set.
fn check(file: &str, expected: &[u8]) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
        return;
    }
    let actual = fs::read(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "{file} is outdated: run UPDATE=1 cargo test -p jtp-cli --test generated"
    );
}

#[test]
fn completions_are_up_to_date() {
    for mut command in programs() {
        let name = command.get_name().to_owned();
        for shell in SHELLS {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, &name, &mut text);
            // The generators leave trailing blanks.
            let text = String::from_utf8(text).unwrap();
            let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
            let extension = match shell {
                Shell::Bash => "bash",
                Shell::Fish => "fish",
                Shell::PowerShell => "ps1",
                _ => "zsh",
            };
            check(
                &format!("completions/{name}.{extension}"),
                (lines.join("\n") + "\n").as_bytes(),
            );
        }
    }
}

#[test]
fn man_pages_are_up_to_date() {
    for command in programs() {
        let page = man_page(&command);
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let name = tables::label(arg).replace('-', "\\-");
            assert!(page.contains(&name), "{name}");
        }
        check(&format!("man/{}.1", command.get_name()), page.as_bytes());
    }
}

#[test]
fn option_tables_are_up_to_date_and_contain_every_option() {
    let programs = programs();
    let mut listed = BTreeSet::new();
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        let (filled, options) = tables::fill(&page, &programs);
        listed.extend(options);
        check(path.to_str().unwrap(), filled.as_bytes());
    }
    for program in &programs {
        for arg in program.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let option = format!("{} {}", program.get_name(), tables::label(arg));
            assert!(listed.contains(&option), "no table contains {option}");
        }
    }
}

/// README.md and the pages in `docs/`.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let mut pages: Vec<PathBuf> = docs.map(|file| file.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.push(root.join("README.md"));
    pages
}

/// Renders a man page. The text after the options in `--help` becomes the sections EXAMPLES, NOTES and EXIT STATUS.
fn man_page(command: &Command) -> String {
    let name = command.get_name();
    let title = format!("jtp-{}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).manual("JTP").source(title);
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    let mut description = Roff::new();
    description.control("SH", ["DESCRIPTION"]);
    let long = command.get_long_about().or(command.get_about()).unwrap();
    description.text([roman(long.to_string().replace('\n', " "))]);
    description.to_writer(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();

    let mut rest = Roff::new();
    let tail = command.get_after_help().unwrap().to_string();
    for part in tail.split("\n\n") {
        if let Some(examples) = part.strip_prefix("Examples:\n") {
            rest.control("SH", ["EXAMPLES"]);
            rest.control("nf", []);
            for line in examples.lines() {
                rest.text([bold(line.trim())]);
            }
            rest.control("fi", []);
            continue;
        }
        let (notes, codes) = part.split_once("Exit codes: ").unwrap_or((part, ""));
        rest.control("SH", ["NOTES"]);
        rest.text([roman(notes.trim().replace('\n', " "))]);
        if !codes.is_empty() {
            rest.control("SH", ["EXIT STATUS"]);
            for code in codes.trim_end_matches('.').replace('\n', " ").split(", ") {
                let (number, meaning) = code.split_once(' ').unwrap();
                assert!(number.parse::<u8>().is_ok(), "{code:?}");
                rest.control("TP", []);
                rest.text([bold(number)]);
                rest.text([roman(meaning)]);
            }
        }
    }
    rest.control("SH", ["ENVIRONMENT"]);
    rest.control("TP", []);
    rest.text([bold("RUST_LOG")]);
    rest.text([
        roman("log filter for stderr, as directives such as "),
        italic("info"),
        roman(" or "),
        italic("jtp_store=debug"),
        roman("; "),
        bold("--verbose"),
        roman(" is a shorthand"),
    ]);
    rest.control("SH", ["SEE ALSO"]);
    let other = if name == "client" { "server" } else { "client" };
    rest.text([bold(other), roman("(1)")]);
    rest.to_writer(&mut page).unwrap();

    // Removes trailing blanks.
    let text = String::from_utf8(page).unwrap();
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}
