//! The program `client`.

use std::thread;

use jtp_tokio::ShutdownSignal;
use tokio::runtime::{Builder, Runtime};

use crate::client_args::ClientArgs;
use crate::connect::{self, Connector};
use crate::exit::{Exit, Failure};
use crate::list;
use crate::logging;
use crate::plan;
use crate::signals;
use crate::sync;
use crate::terminal::stderr_line;

/// Runs the program.
#[must_use]
pub fn main(args: &ClientArgs) -> Exit {
    logging::start_client(args.verbose);
    match run(args) {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.message.is_empty() {
                stderr_line(format_args!("error: {failure}"));
            }
            failure.exit
        }
    }
}

fn run(args: &ClientArgs) -> Result<Exit, Failure> {
    if args.show_identity {
        connect::show_identity(args)?;
        return Ok(Exit::Success);
    }
    let connector = Connector::new(args)?;
    let shutdown = signals::listen(Exit::Interrupted)?;
    let runtime = start_runtime(args.parallel)?;
    let result = runtime.block_on(async {
        if args.list {
            print_catalog(args, &connector, &shutdown).await
        } else if args.dry_run || args.check {
            plan::run(args, &connector, &shutdown).await
        } else {
            sync::run(args, &connector, &shutdown).await
        }
    });
    // Does not wait for a DNS lookup that is still running.
    runtime.shutdown_background();
    result
}

/// A runtime with a thread for each connection, as far as there are processors: a connection with TLS keeps one busy.
fn start_runtime(connections: u8) -> Result<Runtime, Failure> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match usize::from(connections).min(processors) {
        1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            // The main connection has the main thread.
            builder.worker_threads(threads - 1);
            builder
        }
    };
    builder
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start the async runtime: {error}")))
}

async fn print_catalog(
    args: &ClientArgs,
    connector: &Connector,
    shutdown: &ShutdownSignal,
) -> Result<Exit, Failure> {
    let mut client = connector.client();
    let selection = args.select.selection()?;
    let mut exit = Exit::Success;
    let mut reported = 0;
    for _ in 0..args.repeat {
        let mut entries = tokio::select! {
            biased;
            () = shutdown.wait() => return Err(Failure::interrupted()),
            entries = client.list() => entries.map_err(|error| connect::failure(&error, args))?,
        };
        let failed = client.replica_errors();
        let address = client.address().unwrap_or_default();
        for error in failed.iter().skip(reported) {
            if let Some(line) = connect::server_changed(error, args, address) {
                stderr_line(format_args!("{line}"));
            }
        }
        reported = failed.len();
        exit = exit.max(list::report_not_listed(&selection, &entries));
        entries.retain(|entry| selection.selects(entry.id, &entry.name, entry.flags.file_type()));
        if let Some(key) = args.sort {
            list::sort(&mut entries, key);
        }
        list::print(&entries, args.long)?;
    }
    client.close().await;
    Ok(exit)
}
