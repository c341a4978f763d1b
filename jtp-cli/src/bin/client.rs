//! `client`: fetches images from a server. See `client --help`.

use std::process::ExitCode;

use jtp_cli::client;

fn main() -> ExitCode {
    client::main(&client::parse()).into()
}
