//! Checks the commands of the pages in `docs/` and `packaging/` against the programs.

use std::fs;
use std::path::Path;

use clap::Parser;
use jtp_cli::client_args::ClientArgs;
use jtp_cli::server_args::ServerArgs;

use crate::readme::{assert_output, console_commands, copy_images, page, with_keys};
use crate::support::{CLIENT, Folder as _, Process, TestDir, key_of};

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

/// The name of a client in the page, after its key.
const NAME: &str = "alice@laptop";

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

#[test]
fn public_server_page_admits_the_listed_client_alone() {
    let dir = TestDir::new();
    copy_images(&dir);
    let text = page("docs/public-server.md");
    let section = text.split("\n## ").nth(1).unwrap();
    let mut commands = console_commands(section).into_iter();
    let mut next = |program: &str| {
        let next = commands.next().unwrap();
        assert!(next.command.starts_with(program), "{}", next.command);
        next
    };
    let run = |command: &str, key: &str, more: &[&str]| {
        let args = with_keys(command, key);
        let args: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
        dir.run(CLIENT, &[&args[..], more].concat())
    };

    let show = next("client ");
    let line = run(&show.command, "", &[]).out;
    let (own_key, own_name) = line.trim_end().split_once(' ').unwrap();
    assert!(own_name.len() > 1 && show.expected[0].ends_with(NAME));

    let clients = next("cat clients.txt");
    let lines = clients
        .expected
        .iter()
        .map(|line| match line.starts_with("sha256:") {
            true => format!("{own_key} {NAME}\n"),
            false => format!("{line}\n"),
        });
    dir.write("clients.txt", lines.collect::<String>());

    let serve = next("server ");
    assert_eq!(serve.expected, ["listening on 0.0.0.0:8443"]);
    let args: Vec<&str> = serve.command.split_whitespace().skip(1).collect();
    let server: Process = dir.serve(&[&args[..], &["--bind", "127.0.0.1:0"]].concat());
    let key = key_of(&server);
    let address = ["--addr", server.address.as_str()];

    let fetch = next("client ");
    let output = run(&fetch.command, &key, &address);
    output.assert_exit(0);
    let printed: Vec<&str> = output.out.lines().collect();
    assert_output(&fetch.command, &fetch.expected, &printed);

    let refused = next("client ");
    let output = run(&refused.command, &key, &address);
    assert_eq!(refused.expected, ["# exit code 5"]);
    output.assert_exit(5);
}
