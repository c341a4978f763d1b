//! Checks the commands of the pages in `docs/` and `packaging/` against the programs.

use std::fs;
use std::path::Path;

use clap::Parser;
use jtp_cli::client_args::ClientArgs;
use jtp_cli::server_args::ServerArgs;

use crate::readme::{page, with_keys};

/// The pages without a command of the programs.
const WITHOUT_COMMANDS: [&str; 4] = [
    "docs/library.md",
    "docs/operations.md",
    "docs/systems.md",
    "docs/threat-model.md",
];

/// README.md, the pages in `docs/`, and that about the units.
fn pages() -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let names = fs::read_dir(docs)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let others = ["README.md", "packaging/systemd/README.md"].map(str::to_owned);
    let pages = names.map(|name| format!("docs/{name}")).chain(others);
    pages.collect()
}

/// The lines in code blocks, those joined that end with a backslash.
fn code_lines(text: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    let joined = blocks.map(|block| block.replace("\\\n", " "));
    joined
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn commands_of_all_pages_have_valid_arguments() {
    let key = format!("sha256:{}", "0".repeat(64));
    for name in pages() {
        let mut commands = 0;
        for line in code_lines(&page(&name)) {
            let command = line.strip_prefix("$ ").unwrap_or(&line);
            let command = command
                .strip_prefix("ExecStart=/usr/local/bin/")
                .unwrap_or(command);
            let args = with_keys(command, &key);
            let result = match args.first().map(String::as_str) {
                Some("server") => ServerArgs::try_parse_from(&args).map(drop),
                // HAProxy's configuration has lines of this form.
                Some("client") if line.starts_with("$ ") => {
                    ClientArgs::try_parse_from(&args).map(drop)
                }
                _ => continue,
            };
            if args.iter().any(|arg| arg == "send-proxy-v2") {
                continue;
            }
            commands += 1;
            assert!(result.is_ok(), "{name}: {line}: {}", result.unwrap_err());
        }
        let expects_none = WITHOUT_COMMANDS.contains(&name.as_str());
        assert_eq!(commands == 0, expects_none, "{name}");
    }
}
