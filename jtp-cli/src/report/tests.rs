use clap::Parser;
use jtp_core::{FileType, ImageFault};

use jtp_store::FileName;
use jtp_sync::{Cause, Reason};

use super::*;

fn reporter() -> Reporter {
    let reporter = Reporter::new(
        &ClientArgs::parse_from(["client", "--addr", "host:1"]),
        None,
    );
    reporter.begin(Style::Job);
    reporter
}

fn summary(reporter: &Reporter, totals: &Totals, time: Duration) -> String {
    reporter.state().counts.line(totals, time, None)
}

#[test]
fn the_summary_counts_all_outcomes() {
    let reporter = reporter();
    reporter.state().counts.listed = 12;
    let mut totals = Totals::default();
    assert_eq!(
        summary(&reporter, &totals, Duration::from_millis(50)),
        "fetched 0 images (0 B) in 50 ms; 12 already there; 0 failed"
    );
    assert_eq!(reporter.exit(), Exit::Success);

    let id = ImageId(1);
    let name = FileName::of_id(id, FileType::Png);
    reporter.placed(id, &name, 1 << 20, true);
    // The first one has another name for a moment.
    reporter.renamed(ImageId(2), "old.png", &name, true);
    reporter.renamed(ImageId(2), "aside.png", &name, false);
    reporter.renamed(ImageId(3), "other.png", &name, true);
    let too_large = Cause::Fault(ImageFault::TooLarge { limit: 5 });
    reporter.refused(
        id,
        (Some(&name), None),
        (Reason::CannotFetch, None),
        Some(&too_large),
    );
    reporter.refused(
        id,
        (None, None),
        (Reason::NotReceived, None),
        Some(&Cause::NotSent),
    );
    reporter.refused(id, (None, None), (Reason::NotReceived, None), None);
    assert_eq!(reporter.exit(), Exit::SomeFailed);
    reporter.state().counts.gone = 1;
    totals.planned.images = 12;
    // One of those that have arrived has no name yet.
    totals.fetched.images = 2;
    totals.placed.images = 1;
    totals.unfetched.images = 3;
    assert_eq!(
        summary(&reporter, &totals, Duration::from_secs(2)),
        "fetched 1 image (1.00 MiB) in 2.0 s; 0 already there; 3 failed: 2 not sent, 1 too large; \
         1 replaced a file; 1 renamed; 1 kept under another name; 1 gone from the server meanwhile; 8 not fetched"
    );
    reporter.refused(id, (Some(&name), None), (Reason::CannotWrite, None), None);
    assert_eq!(reporter.exit(), Exit::Disk);
}

#[test]
fn an_image_under_another_name_is_no_failure() {
    let reporter = reporter();
    reporter.refused(ImageId(1), (None, None), (Reason::NameTaken, None), None);
    assert_eq!(reporter.exit(), Exit::Success);
}

#[test]
fn files_that_are_not_deleted_are_those_of_the_last_list() {
    let reporter = reporter();
    let report = jtp_sync::ListReport::default();
    for files in [7, 3] {
        reporter.event(&SyncEvent::Listed {
            report: &report,
            announced: 0,
        });
        reporter.event(&SyncEvent::NotDeleted {
            files,
            reason: jtp_sync::NotDeleted::Failed,
        });
    }
    assert_eq!(reporter.state().counts.undeleted, 3);
}
