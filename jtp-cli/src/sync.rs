//! Runs the sync engine with the options of the command line.

use std::sync::Arc;

use jtp_store::OutputError;
use jtp_sync::{Error, Fetch, FolderSync, Names, Observer, Options, SyncEvent, Totals};
use jtp_tokio::{ShutdownSignal, Tokio};

use crate::client_args::ClientArgs;
use crate::connect::{self, Connector};
use crate::exit::{Exit, Failure, error_chain};
use crate::json_log::JsonLog;
use crate::report::{self, Reporter, Style};

/// Runs the jobs of the command line, and follows the server with `--watch`.
///
/// # Errors
///
/// The failure that ended a job early. Images that were complete by then are stored, and if the transfer had started, the
/// summary has been printed.
pub async fn run(
    args: &ClientArgs,
    connector: &Connector,
    shutdown: &ShutdownSignal,
    json: Option<&Arc<JsonLog>>,
) -> Result<Exit, Failure> {
    let reporter = Arc::new(Reporter::new(args, json));
    let observer = {
        let reporter = Arc::clone(&reporter);
        move |event: &SyncEvent<'_>| reporter.event(event)
    };
    let mut sync = build(args, connector, shutdown, observer)?;
    let mut exit = Exit::Success;
    for number in 1..=args.repeat {
        if let Some(json) = json {
            json.write(&report::json::job(number, args.repeat));
        }
        reporter.begin(job_style(args));
        let result = reporter.during(Box::pin(sync.run())).await;
        reporter.finish(&sync.totals());
        exit = exit.max(reporter.exit());
        if let Err(error) = result {
            reporter.ended_early(&sync.totals());
            return Err(failure(&error, args, sync.totals().placed.images).after(exit));
        }
    }
    if !args.watch {
        return Ok(exit);
    }
    reporter.begin(match args.quiet {
        true => Style::Quiet,
        false => Style::Watch,
    });
    if let Some(json) = json {
        // Nobody sees any more what arrives.
        json.end_at_error(shutdown);
    }
    match sync.follow().await {
        Err(Error::Cancelled) if json.is_some_and(|json| json.has_failed()) => Ok(exit),
        Err(error) => Err(failure(&error, args, sync.totals().placed.images).after(exit)),
        Ok(never) => match never {},
    }
}

fn job_style(args: &ClientArgs) -> Style {
    match args.quiet {
        true => Style::Quiet,
        false => Style::Job,
    }
}

pub(crate) fn build(
    args: &ClientArgs,
    connector: &Connector,
    shutdown: &ShutdownSignal,
    observer: impl Observer,
) -> Result<FolderSync<Tokio>, Failure> {
    // An image counts as present under whatever name.
    let options = if args.mirror {
        Options::new()
    } else if args.batch || args.check {
        Options::new().with_names(Names::Any)
    } else {
        Options::new().with_fetch(Fetch::All)
    };
    let options = options
        .with_folders(!args.flat)
        .with_keep_existing(args.keep_existing);
    let sync = FolderSync::builder(connector.builder(), &args.out)
        .options(options)
        .select(args.select.selection()?)
        .rehash(args.checksum)
        .mirror(args.mirror.then_some(args.max_delete))
        .backup(args.backup_dir.clone())
        .connections(usize::from(args.parallel))
        .retries(args.retries)
        .max_image_size(args.max_image_size)
        .max_total_size(args.max_total_size)
        .max_time(args.max_time)
        .cancel(shutdown.clone())
        .observer(observer)
        .build();
    Ok(sync)
}

/// Images of the catalog that were not fetched because the job ended early: also those that had arrived and had no name
/// yet.
pub(crate) fn not_fetched(totals: &Totals) -> u64 {
    let ended = totals.placed.images + totals.unstored.images + totals.unfetched.images;
    totals.planned.images.saturating_sub(ended)
}

/// Converts an error of the engine into a message for the user and an exit code. `fetched`: the images that are in the
/// output folder since the job began.
pub(crate) fn failure(error: &Error, args: &ClientArgs, fetched: u64) -> Failure {
    let limit = |flag: &str| {
        let fetched = match fetched {
            _ if args.list => format!("{} had not listed all images", args.servers),
            _ if args.dry_run || args.check => {
                format!("the folder and {} were not compared", args.servers)
            }
            0 => format!("nothing was fetched from {}", args.servers),
            _ => format!("what was fetched is in {}", args.out.display()),
        };
        Failure::new(
            Exit::SomeFailed,
            format!("{error}; {fetched}: raise {flag} to allow more"),
        )
    };
    match error {
        Error::Client(error) => connect::failure(error, args),
        Error::Folder(error) => output_failure(error),
        Error::Cancelled => Failure::interrupted(),
        Error::CatalogTooLarge { .. } => Failure::other(format!("{}: {error}", args.servers)),
        Error::SizeLimit { .. } => limit("--max-total-size"),
        Error::TimeLimit => limit("--max-time"),
        Error::BackupFolder { path } => Failure::new(
            Exit::Usage,
            format!(
                "--backup-dir {} and --out {} must not contain each other: choose a folder elsewhere, or a hidden one",
                path.display(),
                args.out.display()
            ),
        ),
        error => Failure::other(error_chain(error)),
    }
}

/// Converts an error of the output folder into a message for the user and an exit code.
#[must_use]
fn output_failure(error: &OutputError) -> Failure {
    let hint = match error {
        OutputError::DiskFull { .. } => "; free some space, or choose another folder with --out",
        OutputError::Replaced { .. } => {
            "; start the client again to use the folder that is there now"
        }
        _ => "; choose another folder with --out",
    };
    Failure::new(Exit::Disk, format!("{}{hint}", error_chain(error)))
}
