//! `client`: fetches images from a server. See `client --help`.

use std::process::ExitCode;

use clap::Parser;
use jtp_cli::client_args::ClientArgs;

fn main() -> ExitCode {
    jtp_cli::client::main(&ClientArgs::parse()).into()
}
