//! Each event of a sync as an object.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use clap::Parser;
use jtp_cli::client_args::ClientArgs;
use jtp_cli::exit::Exit;
use jtp_cli::report::json::object;
use jtp_core::{FileType, ImageFault, ImageId};
use jtp_store::{FileName, OutputError};
use jtp_sync::{
    Blocker, BlockerKind, Cause, Change, Difference, ListReport, NotDeleted, Reason, SyncEvent,
    Totals,
};

use super::schema::Schema;

/// Events that no event of jtp-sync leads to. Other tests see them.
const OTHERS: [&str; 11] = [
    "start",
    "job",
    "end",
    "error",
    "summary",
    "entry",
    "plan",
    "comparison",
    "scanning",
    "progress",
    "server_changed",
];

/// The members of all objects, as in [`Schema::members`].
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn add(&mut self, schema: &Schema, event: &SyncEvent<'_>) {
        let args = ClientArgs::parse_from(["client", "-v"]);
        let object = object(event, &args).unwrap_or_else(|| panic!("no object: {event:?}"));
        let value = schema.parse(&object.to_string());
        let event = value["event"].as_str().unwrap();
        self.0.insert(event.to_owned());
        for (name, value) in value.as_object().unwrap() {
            self.0.insert(format!("{event}.{name}"));
            if let Some(value) = value.as_str() {
                self.0.insert(format!("{event}.{name}={value}"));
            }
        }
    }
}

#[test]
fn each_event_is_documented_and_each_documented_value_occurs() {
    let schema = Schema::documented();
    let mut seen = Seen::default();
    let id = ImageId(1);
    let name = FileName::of_id(id, FileType::Png);
    let mut see = |event: &SyncEvent<'_>| seen.add(&schema, event);

    see(&SyncEvent::Scanned { files: 2, read: 1 });
    see(&SyncEvent::Unreadable {
        name: OsStr::new("a"),
        error: &io::Error::other("bad sector"),
    });
    let report = ListReport::default();
    see(&SyncEvent::Listed {
        report: &report,
        announced: 1,
    });
    see(&SyncEvent::Planned(&Totals::default()));
    see(&SyncEvent::Placed {
        id,
        name: &name,
        bytes: 1,
        replaced: true,
    });
    see(&SyncEvent::Renamed {
        id,
        from: "a",
        to: &name,
        aside: false,
    });
    for cause in causes() {
        see(&SyncEvent::Broken { id, cause: &cause });
        see(&SyncEvent::Refused {
            id,
            name: Some(&name),
            reason: Reason::CannotFetch,
            blocker: None,
            cause: Some(&cause),
            stored_as: None,
        });
    }
    let kinds = [
        BlockerKind::File,
        BlockerKind::Folder,
        BlockerKind::Link,
        BlockerKind::Device,
    ];
    for kind in kinds {
        for reason in [Reason::NameTaken, Reason::NamesTaken] {
            see(&SyncEvent::Refused {
                id,
                name: Some(&name),
                reason,
                blocker: Some(&Blocker::new("a", kind, true)),
                cause: None,
                stored_as: Some(&name),
            });
        }
    }
    let error = jtp_driver::client::Error::Failed;
    see(&SyncEvent::Retrying {
        error: &error,
        pause: Duration::from_millis(1500),
        address: None,
    });
    see(&SyncEvent::FewerConnections { connections: 1 });
    see(&SyncEvent::NotListed { id });
    see(&SyncEvent::Deleted { id, name: "a" });
    see(&SyncEvent::DeleteFailed {
        name: "a",
        cause: &Cause::NotSent,
    });
    for reason in [
        NotDeleted::EmptyCatalog,
        NotDeleted::IncompleteCatalog,
        NotDeleted::Failed,
        NotDeleted::ServerChanged,
        NotDeleted::DiskFull { bytes: 1 },
        NotDeleted::OverLimit {
            limit: 1,
            present: 2,
        },
    ] {
        see(&SyncEvent::NotDeleted { files: 2, reason });
    }
    see(&SyncEvent::Watching);
    see(&SyncEvent::FolderInUse);
    for change in changes(id, &name) {
        see(&SyncEvent::Change(&change));
    }
    for difference in differences(id, &name) {
        see(&SyncEvent::Difference(&difference));
    }

    let is_other = |member: &&String| {
        let event = member.split('.').next().unwrap();
        OTHERS.contains(&event)
    };
    let documented = schema.members();
    let missing: Vec<_> = documented
        .iter()
        .filter(|member| !is_other(member))
        .collect();
    let missing: Vec<_> = missing
        .into_iter()
        .filter(|member| !seen.0.contains(*member))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    let events = schema.events().into_iter();
    let unseen: Vec<_> = events.filter(|event| !seen.0.contains(*event)).collect();
    assert_eq!(
        unseen,
        BTreeSet::from(OTHERS).into_iter().collect::<Vec<_>>()
    );
}

fn causes() -> Vec<Cause> {
    let error = || OutputError::Io {
        path: "a".into(),
        source: io::Error::other("bad sector"),
    };
    vec![
        Cause::NotSent,
        Cause::Folder(error()),
        Cause::Backup(error()),
        Cause::Fault(ImageFault::Encrypted),
        Cause::Fault(ImageFault::TooLarge { limit: 1 }),
        Cause::Fault(ImageFault::WrongId {
            expected: ImageId(1),
            actual: ImageId(2),
        }),
        Cause::Fault(ImageFault::Broken("no frame")),
        Cause::Fault(ImageFault::CompressionUnsupported),
    ]
}

fn changes(id: ImageId, to: &FileName) -> Vec<Change> {
    let (name, from) = ("a".to_owned(), "b".to_owned());
    vec![
        Change::Fetch {
            id,
            name: to.clone(),
            length: 1,
            replaces: false,
        },
        Change::Rename {
            id,
            from,
            to: to.clone(),
            aside: false,
            replaces: true,
        },
        Change::Delete {
            id,
            name: name.clone(),
        },
        Change::Keep {
            id,
            name: name.clone(),
        },
        Change::LeaveOut { id, name },
    ]
}

fn differences(id: ImageId, name: &FileName) -> Vec<Difference> {
    vec![
        Difference::Missing {
            id,
            name: name.clone(),
        },
        Difference::Differs {
            id,
            name: name.clone(),
        },
        Difference::Unreadable {
            id,
            name: name.clone(),
        },
        Difference::Renamed {
            id,
            from: "b".to_owned(),
            to: name.clone(),
        },
        Difference::Extra {
            id,
            name: "c".to_owned(),
        },
    ]
}

#[test]
fn each_kind_of_error_is_documented() {
    let all = [
        Exit::Other,
        Exit::SomeFailed,
        Exit::RateLimited,
        Exit::Connect,
        Exit::Tls,
        Exit::Protocol,
        Exit::Disk,
        Exit::Interrupted,
    ];
    let names = all.map(Exit::name).into_iter().chain(["usage"]);
    let kinds: BTreeSet<_> = names.map(|name| format!("error.kind={name}")).collect();
    let mut documented = Schema::documented().members();
    documented.retain(|member| member.starts_with("error.kind="));
    assert_eq!(documented, kinds);
}
