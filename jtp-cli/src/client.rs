//! The program `client`.

use std::sync::Arc;
use std::thread;

use clap::Parser;
use jtp_sync::{Error, SyncEvent};
use jtp_tokio::ShutdownSignal;
use tokio::runtime::{Builder, Runtime};

use crate::client_args::ClientArgs;
use crate::connect::{self, Connector};
use crate::exit::{Exit, Failure};
use crate::json_log::{self, JsonLog};
use crate::list;
use crate::logging;
use crate::plan;
use crate::report::{self, Reporter, Style};
use crate::signals;
use crate::sync;
use crate::terminal::stderr_line;

/// The command line of the program. An invalid one ends it.
#[must_use]
pub fn parse() -> ClientArgs {
    ClientArgs::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
            let message = error.to_string();
            let message = message.strip_prefix("error: ").unwrap_or(&message);
            let end = message.find("\n\n").unwrap_or(message.len());
            json_log::usage_error(&message[..end]);
        }
        error.exit()
    })
}

/// Runs the program.
#[must_use]
pub fn main(args: &ClientArgs) -> Exit {
    let at_start = signals::prepare();
    logging::start_client(args.verbose);
    // First, so that whatever ends the client from here on is reported.
    let shutdown = signals::listen_as_client(at_start);
    let json = args.json.then(|| Arc::new(JsonLog::start(args)));
    let (exit, message) = match shutdown.and_then(|shutdown| run(args, &shutdown, json.as_ref())) {
        Ok(exit) => (exit, None),
        Err(failure) => {
            if !failure.message.is_empty() {
                stderr_line(format_args!("error: {failure}"));
            }
            (failure.exit, Some(failure.message))
        }
    };
    let Some(json) = json else {
        return exit;
    };
    json.end(exit, message.as_deref())
}

fn run(
    args: &ClientArgs,
    shutdown: &ShutdownSignal,
    json: Option<&Arc<JsonLog>>,
) -> Result<Exit, Failure> {
    if args.show_identity {
        connect::show_identity(args)?;
        return Ok(Exit::Success);
    }
    let connector = Connector::new(args)?;
    let runtime = start_runtime(args.parallel)?;
    let result = runtime.block_on(async {
        if args.list {
            print_catalog(args, &connector, shutdown, json).await
        } else if args.dry_run || args.check {
            plan::run(args, &connector, shutdown, json).await
        } else {
            sync::run(args, &connector, shutdown, json).await
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

/// Waits for the end of `--max-time`.
async fn time_limit(args: &ClientArgs) {
    match args.max_time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

async fn print_catalog(
    args: &ClientArgs,
    connector: &Connector,
    shutdown: &ShutdownSignal,
    json: Option<&Arc<JsonLog>>,
) -> Result<Exit, Failure> {
    let selection = args.select.selection()?;
    let reporter = Reporter::new(args, json);
    reporter.begin(match args.quiet {
        true => Style::Quiet,
        false => Style::Plan,
    });
    // As in other jobs. // R6
    let report = move |error: &_, pause| {
        reporter.event(&SyncEvent::Retrying {
            error,
            pause,
            address: None,
        });
    };
    let mut client = connector.builder().on_retry(report).build();
    let mut exit = Exit::Success;
    let mut reported = 0;
    for number in 1..=args.repeat {
        if let Some(json) = json {
            json.write(&report::json::job(number, args.repeat));
        }
        let mut entries = tokio::select! {
            biased;
            () = shutdown.wait() => return Err(Failure::interrupted()),
            entries = client.list() => entries.map_err(|error| connect::failure(&error, args))?,
            () = time_limit(args) => return Err(sync::failure(&Error::TimeLimit, args, 0)),
        };
        let failed = client.replica_errors();
        let address = client.address().unwrap_or_default();
        for error in failed.iter().skip(reported) {
            if let Some(json) = json {
                json.write(&report::json::server_changed(error, address, args));
            }
            if let Some(line) = connect::server_changed(error, args, address) {
                stderr_line(format_args!("{line}"));
            }
        }
        reported = failed.len();
        exit = exit.max(list::report_not_listed(&selection, &entries, json));
        let listed = entries.len();
        entries.retain(|entry| selection.selects(entry.id, &entry.name, entry.flags.file_type()));
        if entries.is_empty() && !args.quiet {
            list::note_empty(listed, client.address().unwrap_or_default());
        }
        if let Some(key) = args.sort {
            list::sort(&mut entries, key);
        }
        match json {
            Some(json) => list::write_json(&entries, json),
            None => list::print(&entries, args.long)?,
        }
    }
    client.close().await;
    Ok(exit)
}
