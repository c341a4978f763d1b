//! `server`: shares the images of a folder. See `server --help`.

use std::process::ExitCode;

use clap::Parser;
use jtp_cli::server_args::ServerArgs;

fn main() -> ExitCode {
    jtp_cli::server::main(&ServerArgs::parse()).into()
}
