//! The program `client`.

use crate::client_args::ClientArgs;
use crate::connect::Connector;
use crate::exit::{Exit, Failure};
use crate::job::Session;
use crate::list;
use crate::logging::{self, DefaultLevel};
use crate::signals;
use crate::terminal::stderr_line;
use crate::watch;

/// Runs the program.
#[must_use]
pub fn main(args: &ClientArgs) -> Exit {
    logging::start(DefaultLevel::Error, args.verbose);
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
    let connector = Connector::new(args)?;
    let shutdown = signals::listen(Exit::Interrupted)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start the async runtime: {error}")))?;
    let result = runtime.block_on(run_jobs(Session::new(args, connector, shutdown)));
    // Does not wait for a DNS lookup that is still running.
    runtime.shutdown_background();
    result
}

async fn run_jobs(mut session: Session) -> Result<Exit, Failure> {
    let mut client = session.connector.client();
    let mut exit = Exit::Success;
    let mut last = None;
    for _ in 0..session.args.repeat {
        if session.args.list {
            list::print(&session.list(&mut client).await?)?;
            continue;
        }
        let outcome = session
            .run_job(&mut client)
            .await
            .map_err(|failure| failure.after(exit))?;
        exit = exit.max(outcome.exit);
        last = Some(outcome);
    }
    match last {
        Some(outcome) if session.args.watch => watch::follow(session, client, outcome.present)
            .await
            .map_err(|failure| failure.after(exit)),
        _ => {
            client.close().await;
            Ok(exit)
        }
    }
}
