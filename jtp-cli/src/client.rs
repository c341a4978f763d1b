//! The program `client`.

use crate::client_args::ClientArgs;
use crate::connect::Connector;
use crate::exit::{Exit, Failure};
use crate::job::Run;
use crate::list;
use crate::logging::{self, Base};
use crate::signals;
use crate::terminal::note_line;
use crate::watch;

/// Runs the program.
#[must_use]
pub fn main(args: &ClientArgs) -> Exit {
    logging::start(Base::Quiet, args.verbose);
    match run(args) {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.message.is_empty() {
                note_line(format_args!("error: {failure}"));
            }
            failure.exit
        }
    }
}

fn run(args: &ClientArgs) -> Result<Exit, Failure> {
    let connector = Connector::new(args)?;
    let stop = signals::listen(Exit::Interrupted)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    let result = runtime.block_on(work(Run::new(args, connector, stop)));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    result
}

async fn work(mut run: Run) -> Result<Exit, Failure> {
    let mut client = run.connector.client();
    let mut exit = Exit::Success;
    let mut last = None;
    for _ in 0..run.args.repeat {
        if run.args.list {
            list::print(&run.list(&mut client).await?)?;
            continue;
        }
        let done = run
            .job(&mut client)
            .await
            .map_err(|failure| failure.after(exit))?;
        exit = exit.max(done.exit);
        last = Some(done);
    }
    match last {
        Some(done) if run.args.watch => watch::follow(run, client, done.have)
            .await
            .map_err(|failure| failure.after(exit)),
        _ => {
            client.close().await;
            Ok(exit)
        }
    }
}
