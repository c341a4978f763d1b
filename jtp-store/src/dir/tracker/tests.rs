use std::ffi::OsStr;
use std::sync::mpsc;

use super::*;
use crate::dir::index::Index;
use crate::dir::pool::Outcome;
use crate::dir::quiet::Quiet;
use crate::dir::select::Naming;
use crate::fingerprint::Fingerprint;
use crate::known::Contents;

/// A tracker without a pool: the test gives the outcome of each task.
struct Harness {
    index: Arc<SharedIndex>,
    tracker: Tracker,
    now: Instant,
}

impl Harness {
    /// With a complete initial index of no files.
    fn new() -> Harness {
        let mut harness = Harness::beginning(Vec::new());
        assert!(harness.tracker.advance_initial(harness.now));
        harness.tracker.finish_initial();
        harness
    }

    /// At the beginning of the initial index of these files.
    fn beginning(files: Vec<Name>) -> Harness {
        let index = Arc::new(SharedIndex::new(Index::new(0, Naming::Flat)));
        let (ready, _) = mpsc::channel();
        let mut tracker = Tracker::new(
            Arc::clone(&index),
            Arc::default(),
            EarlierImages::default(),
            InitialIndex::new(None, ready),
        );
        tracker.begin_initial(files, 0);
        Harness {
            index,
            tracker,
            now: Instant::now(),
        }
    }

    /// Adds an event, and returns the task that it leads to.
    fn task_after(&mut self, file: &Name, event: FileEvent) -> Task {
        self.tracker.add_event(file, event, self.now);
        self.task(file)
    }

    fn task(&mut self, file: &Name) -> Task {
        self.now += Duration::from_millis(100);
        let (found, task) = self.tracker.next_task(self.now).expect("a task is due");
        assert_eq!(found, *file);
        task
    }

    fn examined(&mut self, file: &Name, outcome: Outcome) {
        self.tracker.examined(file, outcome, self.now);
    }

    fn list(&mut self, file: &Name, id: u64) {
        self.task_after(file, FileEvent::Completed);
        self.examined(file, read(id));
    }

    fn expire(&mut self) {
        self.tracker.expire_removed(self.now, None);
    }

    fn listed(&self) -> Vec<Name> {
        self.index.read().names().collect()
    }
}

fn name(name: &str) -> Name {
    Name::from(OsStr::new(name))
}

/// The outcome for a file with that ID; the inode is the ID, too.
fn read(id: u64) -> Outcome {
    Outcome::Read {
        fingerprint: Fingerprint::sample(id),
        length: 5,
        contents: Contents {
            id: ImageId(id),
            sniffed: None,
            incompressible_at: 0,
        },
        from_index_file: false,
        unsettled: None,
    }
}

/// The outcome for an empty file with that inode.
fn read_empty(inode: u64) -> Outcome {
    let mut outcome = read(inode);
    if let Outcome::Read {
        fingerprint,
        length,
        contents,
        ..
    } = &mut outcome
    {
        (fingerprint.size, *length, contents.id) = (0, 0, ImageId::of(b""));
    }
    outcome
}

fn listed_id(harness: &Harness, file: &Name) -> Option<u64> {
    harness.index.read().file(file).map(|record| record.id.0)
}

#[test]
fn r8_file_that_is_checked_again_when_ids_are_first_claimed_holds_its_id() {
    let (first, second) = (name("1.png"), name("2.png"));
    let mut harness = Harness::beginning(vec![Arc::clone(&first), Arc::clone(&second)]);
    harness.task(&first);
    harness.task(&second);
    harness.examined(&first, read(7));
    let now = harness.now;
    harness.tracker.add_event(&second, FileEvent::Scanned, now);
    harness.examined(&second, read(7));
    harness.task(&second);
    assert!(!harness.tracker.advance_initial(harness.now));
    harness.examined(&second, Outcome::Unchanged);
    assert!(!harness.tracker.advance_initial(harness.now));
    let task = harness.task(&second);
    assert!(matches!(task, Task::Compare { .. }));
    harness.examined(&second, Outcome::Equal);
    assert!(harness.tracker.advance_initial(harness.now));
    harness.tracker.finish_initial();
    // Only the second one is left.
    harness.task_after(&first, FileEvent::Removed);
    harness.examined(&first, Outcome::Missing);
    harness.expire();
    assert!(harness.index.read().contains(ImageId(7)));
}

#[test]
fn r8_an_image_that_becomes_empty_stays_listed_and_is_not_listed_as_an_empty_one() {
    let mut harness = Harness::new();
    let (file, moved, other) = (name("a.png"), name("moved.png"), name("other.png"));
    let Outcome::Read { fingerprint, .. } = read_empty(7) else {
        unreachable!();
    };
    for is_noticed_early in [true, false] {
        harness.list(&file, 7);
        harness.task_after(&file, FileEvent::Completed);
        if is_noticed_early {
            let wait = Duration::from_millis(100);
            harness.examined(&file, Outcome::Unsettled { fingerprint, wait });
            assert_eq!(listed_id(&harness, &file), Some(7));
            harness.task(&file);
        }
        harness.examined(&file, read_empty(7));
        assert_eq!(listed_id(&harness, &file), Some(7));
        // A scan does not look at it again.
        let unreadable = harness.tracker.unreadable().get(&file);
        assert_eq!(unreadable, Some(Some(fingerprint)));
        assert!(
            harness
                .tracker
                .take_learned()
                .iter()
                .all(|(print, _)| print.size > 0),
            "the next run would list it"
        );
    }
    // It is moved: the image is no longer listed under its name. Another file was always empty.
    harness.task_after(&file, FileEvent::Removed);
    harness.examined(&file, Outcome::Missing);
    assert_eq!(harness.tracker.unreadable().get(&file), None);
    harness.task_after(&moved, FileEvent::Completed);
    harness.examined(&moved, read_empty(7));
    let refusal = harness.tracker.refusals().get(&moved).unwrap();
    assert_eq!(refusal.kind, LeftOutReason::Emptied);
    harness.task_after(&other, FileEvent::Created);
    harness.examined(&other, read_empty(8));
    harness.expire();
    assert_eq!(harness.listed(), [Arc::clone(&other)]);
    // It has contents again.
    harness.list(&moved, 7);
    assert_eq!(harness.listed().len(), 2);
    assert!(harness.tracker.refusals().get(&moved).is_none());
    // Files with its inode or its name that were always empty.
    harness.task_after(&moved, FileEvent::Removed);
    harness.examined(&moved, Outcome::Missing);
    for (always_empty, inode) in [(name("later.png"), 7), (file, 9)] {
        harness.task_after(&always_empty, FileEvent::Created);
        harness.examined(&always_empty, read_empty(inode));
        assert!(harness.tracker.refusals().get(&always_empty).is_none());
        harness.task(&always_empty);
        harness.examined(&always_empty, Outcome::Equal);
    }
}

#[test]
fn r8_an_image_that_is_being_changed_stays_listed_until_its_new_contents_are_known() {
    for is_open in [true, false] {
        let mut harness = Harness::new();
        let (file, copy) = (name("a.png"), name("copy.png"));
        harness.list(&file, 7);
        harness.task_after(&file, FileEvent::Removed);
        harness.examined(&file, Outcome::Missing);
        // Another file has its name, and is being written.
        harness.task_after(&file, FileEvent::Created);
        let fingerprint = found(3);
        for _ in 0..20 {
            harness.examined(
                &file,
                match is_open {
                    true => Outcome::OpenForWriting { fingerprint },
                    false => Outcome::Unsettled {
                        fingerprint,
                        wait: Duration::from_millis(100),
                    },
                },
            );
            harness.expire();
            assert_eq!(listed_id(&harness, &file), Some(7));
            harness.now += Duration::from_millis(500);
            harness.task(&file);
        }
        harness.examined(&file, read(8));
        assert_eq!(listed_id(&harness, &file), Some(8));
        // Another file with the same bytes is listed in its place.
        harness.list(&copy, 8);
        harness.task(&copy);
        harness.examined(&copy, Outcome::Equal);
        harness.task_after(&file, FileEvent::Written);
        harness.examined(&file, Outcome::OpenForWriting { fingerprint });
        assert_eq!(harness.listed(), [copy]);
    }
}

#[test]
fn n1_a_renamed_file_stays_in_the_index_under_either_name() {
    let mut harness = Harness::new();
    let (old, new) = (name("old.png"), name("new.png"));
    harness.list(&old, 7);
    harness.task_after(&old, FileEvent::Removed);
    harness
        .tracker
        .add_event(&new, FileEvent::Completed, harness.now);
    harness.examined(&old, Outcome::Missing);
    harness.expire();
    assert_eq!(harness.listed(), [Arc::clone(&old)], "a check is due soon");
    harness.task(&new);
    // The old name does not count as another file with the ID.
    harness.examined(&new, read(7));
    harness.expire();
    assert_eq!(harness.listed(), [new]);
}

#[test]
fn n1_w9_a_missing_file_stays_listed_until_changed_folders_were_scanned_once() {
    let mut harness = Harness::new();
    let file = name("album/a.png");
    harness.list(&file, 7);
    let last_scan = harness.now;
    harness.task_after(&file, FileEvent::Suspected);
    harness.examined(&file, Outcome::Missing);
    let removed = harness.now;
    harness.now += Duration::from_secs(60);
    let now = harness.now;
    harness.tracker.expire_removed(now, Some(last_scan));
    assert_eq!(harness.listed(), [Arc::clone(&file)]);
    assert_eq!(harness.tracker.next_due(Some(last_scan)), None);
    // Folders change all the time.
    harness
        .tracker
        .expire_removed(now, Some(removed + Duration::from_millis(1)));
    assert!(harness.listed().is_empty());
}

#[test]
fn s4_a_file_with_the_id_of_another_is_compared_and_retried_when_that_one_is_removed() {
    let mut harness = Harness::new();
    let (one, other) = (name("one.png"), name("other.png"));
    harness.list(&one, 7);
    harness.list(&other, 7);
    assert_eq!(harness.listed(), [Arc::clone(&one)]);
    let comparison = harness.task(&other);
    assert!(matches!(comparison, Task::Compare { other, .. } if other == one));
    harness.examined(&other, Outcome::Different);
    assert_eq!(harness.listed(), [Arc::clone(&one)]);
    assert!(harness.tracker.refusals().get(&other).is_some());
    harness.task_after(&one, FileEvent::Removed);
    harness.examined(&one, Outcome::Missing);
    harness.expire();
    assert!(harness.listed().is_empty());
    harness.task(&other);
    harness.examined(&other, read(7));
    assert_eq!(harness.listed(), [other]);
}

#[test]
fn a_postponed_check_keeps_the_file_listed_and_is_repeated() {
    let mut harness = Harness::new();
    let file = name("a.png");
    harness.list(&file, 7);
    harness.task_after(&file, FileEvent::Touched);
    let wait = Duration::from_secs(1);
    harness.examined(&file, Outcome::Postponed { wait });
    assert_eq!(harness.listed(), [Arc::clone(&file)]);
    assert_eq!(harness.tracker.next_due(None), Some(harness.now + wait));
    harness.now += wait;
    harness.task(&file);
}

#[test]
fn r8_an_unreadable_image_stays_listed_and_is_tried_again_after_a_minute() {
    let mut harness = Harness::new();
    let file = name("a.png");
    harness.list(&file, 7);
    harness.task_after(&file, FileEvent::Touched);
    let unreadable = Outcome::Unreadable {
        fingerprint: Some(Fingerprint::sample(7)),
        reason: String::new(),
        with_folder: false,
    };
    harness.examined(&file, unreadable);
    assert_eq!(harness.listed(), [Arc::clone(&file)]);
    let minute = Duration::from_secs(60);
    assert_eq!(harness.tracker.next_due(None), Some(harness.now + minute));
    harness.now += minute;
    harness.task(&file);
}

#[test]
fn a_file_written_while_it_was_read_is_read_again() {
    let mut harness = Harness::new();
    let file = name("a.png");
    harness.task_after(&file, FileEvent::Completed);
    let now = harness.now;
    harness.tracker.add_event(&file, FileEvent::Written, now);
    harness.examined(&file, read(7));
    assert!(harness.listed().is_empty());
    assert!(matches!(
        harness.task(&file),
        Task::Examine { rehash: true, .. }
    ));
}

/// The fingerprint of a file of that size.
fn found(size: u64) -> Fingerprint {
    let changed = size as i64;
    Fingerprint {
        size,
        changed,
        ..Fingerprint::sample(7)
    }
}

fn quiet(task: &Task) -> Quiet {
    match task {
        Task::Examine { quiet, .. } => *quiet,
        Task::Compare { .. } => panic!("{task:?}"),
    }
}

#[test]
fn a_file_open_for_writing_is_checked_again_until_it_is_closed() {
    let mut harness = Harness::new();
    let file = name("a.png");
    harness.list(&file, 7);
    let task = harness.task_after(&file, FileEvent::Written);
    assert_eq!(quiet(&task), Quiet::OPEN);
    let fingerprint = found(6);
    harness.examined(&file, Outcome::OpenForWriting { fingerprint });
    for _ in 0..1000 {
        let due = harness.tracker.next_due(None).unwrap();
        assert!(due - harness.now <= Duration::from_millis(500));
        harness.now = due;
        let task = harness.task(&file);
        assert_eq!(quiet(&task), Quiet::OPEN);
        harness.examined(&file, Outcome::OpenForWriting { fingerprint });
    }
    let task = harness.task_after(&file, FileEvent::Completed);
    assert_eq!(quiet(&task), Quiet::CLOSED);
    harness.examined(&file, read(8));
    assert_eq!(listed_id(&harness, &file), Some(8));
}

#[test]
fn a_file_that_is_closed_while_it_is_checked_counts_as_closed_and_one_that_is_touched_does_not() {
    let (fingerprint, wait) = (found(6), Duration::from_secs(60));
    for (event, expected) in [
        (FileEvent::Completed, Quiet::CLOSED),
        (FileEvent::Touched, Quiet::OPEN),
        (FileEvent::Created, Quiet::OPEN),
        (FileEvent::Scanned, Quiet::OPEN),
    ] {
        for is_open in [false, true] {
            let mut harness = Harness::new();
            let file = name("a.png");
            harness.task_after(&file, FileEvent::Written);
            harness.tracker.add_event(&file, event, harness.now);
            harness.examined(
                &file,
                match is_open {
                    true => Outcome::OpenForWriting { fingerprint },
                    false => Outcome::Unsettled { fingerprint, wait },
                },
            );
            let due = harness.tracker.next_due(None).unwrap();
            harness.now = harness.now.max(due);
            let task = harness.task(&file);
            assert_eq!(quiet(&task), expected, "{event:?}");
            assert!(matches!(task, Task::Examine { rehash: true, .. }));
        }
    }
}

#[test]
fn after_lost_events_a_written_file_may_have_been_closed() {
    let mut harness = Harness::new();
    let (waiting, checked) = (name("a.png"), name("b.png"));
    harness.task_after(&checked, FileEvent::Written);
    let now = harness.now;
    harness.tracker.add_event(&waiting, FileEvent::Written, now);
    harness.tracker.events_lost();
    assert_eq!(quiet(&harness.task(&waiting)), Quiet::FOUND);
    let (fingerprint, wait) = (found(6), Duration::from_millis(10));
    harness.examined(&checked, Outcome::Unsettled { fingerprint, wait });
    assert_eq!(quiet(&harness.task(&checked)), Quiet::FOUND);
}
