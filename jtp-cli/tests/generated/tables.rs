//! The tables of options in the pages, made from the command line definitions.
//!
//! A page marks the place of a table by `<!-- options PROGRAM -->` and `<!-- /options -->`. The table contains all options,
//! or those that the marker names: `<!-- options client --batch --out -->`.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

const START: &str = "<!-- options ";
const END: &str = "<!-- /options -->";

/// The longest description, in characters. Of a longer text the table contains the first sentence.
const MAX_DESCRIPTION: usize = 100;

/// Replaces the tables of a page. Returns the page and the options that are in its tables, as `client --batch`.
pub(crate) fn fill(page: &str, programs: &[Command]) -> (String, Vec<String>) {
    let (mut filled, mut options) = (String::new(), Vec::new());
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(START) {
        let (marker, after) = after.split_once(" -->\n").expect("a complete marker");
        let (_, after) = after.split_once(END).expect("an end marker");
        let mut words = marker.split(' ');
        let name = words.next().unwrap();
        let names: Vec<&str> = words.collect();
        let program = programs.iter().find(|program| program.get_name() == name);
        let tables = tables(program.expect(marker), &names, &mut options);
        write!(filled, "{before}{START}{marker} -->\n{tables}\n{END}").unwrap();
        rest = after;
    }
    (filled + rest, options)
}

/// A table of the options with these names in their order, or one for each heading of `--help`.
fn tables(program: &Command, names: &[&str], options: &mut Vec<String>) -> String {
    let visible = || program.get_arguments().filter(|arg| !arg.is_hide_set());
    let sections: Vec<(Option<&str>, Vec<&Arg>)> = if names.is_empty() {
        let mut sections: Vec<(Option<&str>, Vec<&Arg>)> = Vec::new();
        for arg in visible() {
            let heading = arg.get_help_heading();
            match sections.iter_mut().find(|(other, _)| *other == heading) {
                Some((_, args)) => args.push(arg),
                None => sections.push((heading, vec![arg])),
            }
        }
        sections
    } else {
        let named = names.iter().map(|name| {
            let found = visible().find(|arg| label(arg) == *name);
            found.unwrap_or_else(|| panic!("{} has no option {name}", program.get_name()))
        });
        vec![(None, named.collect())]
    };
    let mut text = String::new();
    for (heading, args) in sections {
        if let Some(heading) = heading {
            write!(text, "\n### {heading}\n").unwrap();
        }
        text.push_str("\n| Option | Default | Meaning |\n|---|---|---|\n");
        for arg in args {
            options.push(format!("{} {}", program.get_name(), label(arg)));
            let (meaning, default) = meaning_and_default(arg);
            let default = if default.is_empty() {
                " ".to_owned()
            } else {
                format!(" {default} ")
            };
            writeln!(text, "| {} |{default}| {meaning} |", names_of(arg)).unwrap();
        }
    }
    text
}

/// `--batch`, or the name of the value of an argument without a name.
pub(crate) fn label(arg: &Arg) -> String {
    match arg.get_long() {
        Some(long) => format!("--{long}"),
        None => value_name(arg).to_owned(),
    }
}

fn value_name(arg: &Arg) -> &str {
    &arg.get_value_names().unwrap()[0]
}

/// All names, and the value.
fn names_of(arg: &Arg) -> String {
    let mut first = label(arg);
    if arg.get_long().is_some() && arg.get_action().takes_values() {
        write!(first, " {}", value_name(arg)).unwrap();
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    let aliases = aliases.into_iter().map(|alias| format!("--{alias}"));
    let all = std::iter::once(first).chain(short).chain(aliases);
    all.map(|name| code(&name)).collect::<Vec<_>>().join(", ")
}

/// The help text, shortened, without a `[default: …]` at its end, and the default.
fn meaning_and_default(arg: &Arg) -> (String, String) {
    let help = match arg.get_action() {
        ArgAction::Help => "Print all options".to_owned(),
        ArgAction::Version => "Print the version".to_owned(),
        _ => arg.get_help().expect("a help text").to_string(),
    };
    let (help, default) = match help.split_once(" [default") {
        Some((help, default)) => {
            let default = default.strip_suffix(']').expect("a default at the end");
            let default = default.split_once(": ").unwrap().1;
            (help.to_owned(), markdown(default))
        }
        None if arg.get_action().takes_values() && !arg.is_hide_default_value_set() => {
            let values = arg.get_default_values().iter();
            let values = values.map(|value| code(value.to_str().unwrap()));
            (help, values.collect::<Vec<_>>().join(", "))
        }
        None => (help, String::new()),
    };
    let sentence = help.split_once(". ").map_or(&*help, |(first, _)| first);
    let is_long = help.chars().count() > MAX_DESCRIPTION;
    let mut meaning = markdown(if is_long { sentence } else { &help });
    let values = arg.get_possible_values();
    if arg.get_action().takes_values() && !values.is_empty() {
        let values = values.iter().map(|value| code(value.get_name()));
        let values = values.collect::<Vec<_>>().join(", ");
        write!(meaning, ": {values}").unwrap();
    }
    (meaning, default)
}

/// Formats options and patterns as code, and escapes what Markdown interprets.
fn markdown(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let bare = word
            .trim_start_matches('(')
            .trim_end_matches([',', ';', ')', ':', '.']);
        let is_code = bare.starts_with("--")
            || bare.contains("://")
            || bare.ends_with(".pem")
            || bare.starts_with("/h")
            || bare.contains(['*', '_', '<', '|'])
            || (bare.starts_with('-') && bare.len() > 1);
        match is_code {
            true => word.replacen(bare, &code(bare), 1),
            false => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn code(text: &str) -> String {
    // In a table, a vertical bar ends the cell also in code.
    format!("`{}`", text.trim_matches('\'').replace('|', "\\|"))
}
