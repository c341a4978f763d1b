//! Examples as processes.

use std::path::Path;
use std::process::{Command, Stdio};

use jtp_kit::{Output, Process};

/// The command that runs an example.
pub(crate) fn command(name: &str, args: &[&str], folder: &Path) -> Command {
    // target/PROFILE/deps/run-HASH; `cargo test -p jtp-examples` builds the examples.
    let own = std::env::current_exe().unwrap();
    let examples = own.ancestors().nth(2).unwrap().join("examples");
    let program = examples.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

/// Starts an example.
pub(crate) fn start(name: &str, args: &[&str], folder: &Path) -> Process {
    Process::start(command(name, args, folder))
}

/// Runs an example that succeeds without output on stderr. Returns the lines on stdout.
pub(crate) fn succeeds(example: Process) -> Vec<String> {
    let output = example.wait();
    output.assert_no_error();
    output.out.lines().map(str::to_owned).collect()
}

/// Runs an example that ends with exit code 1 and one line on stderr. Returns that line.
pub(crate) fn fails(example: Process) -> String {
    let output: Output = example.wait();
    output.assert_exit(1);
    let lines: Vec<_> = output.err.lines().collect();
    assert_eq!(lines.len(), 1, "{output:?}");
    lines[0].to_owned()
}
