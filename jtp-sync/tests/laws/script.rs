//! A planner's calls, and the steps that follow, as text.
//!
//! ```text
//! folder a.png=1 b.png=2         a scan that finds images 1 and 2
//! list a.png=2 b.png=1           a LIST
//! > rename 1 a.png b.png, …      all steps that the planner takes now, each of which succeeds
//! renamed 2                      a total
//! finished
//! ```
//!
//! [`act`] has all words; `#` begins a comment. Other files than images are `name=other`, `name=unread`, …, see [`kind`]; `!name=1` in a LIST or
//! an event is an image that is left out. `> nothing` stands for no step.

use jtp_core::FileType::Png;
use jtp_core::ImageId;
use jtp_sync::{
    Count, Expect, Fetch, FetchFailure, FileKind, Inventory, Names, Options, Outcome, Planner,
    Received, Step,
};

use crate::executor::length;

/// Tests that play a script.
macro_rules! scripts {
    ($(fn $name:ident() { $script:literal })+) => {$(
        #[test]
        fn $name() {
            $crate::script::play($script);
        }
    )+};
}

pub(crate) use scripts;

/// A planner, after what the script says.
pub(crate) fn play(script: &str) -> Planner {
    let mut planner = Planner::new(Options::new());
    go_on(&mut planner, script);
    planner
}

pub(crate) fn go_on(planner: &mut Planner, script: &str) {
    let lines = script.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut lines = lines.peekable();
    let mut last = "";
    while let Some(line) = lines.next() {
        let Some(first) = line.strip_prefix("> ") else {
            act(planner, line);
            last = line;
            continue;
        };
        let mut expected: Vec<&str> = first.split(", ").collect();
        while let Some(line) = lines.next_if(|line| line.starts_with("> ")) {
            expected.extend(line[2..].split(", "));
        }
        expected.retain(|step| *step != "nothing");
        assert_eq!(steps(planner), expected, "after {last:?}");
    }
}

/// Takes steps, and carries them out in no folder at all: all succeed.
pub(crate) fn steps(planner: &mut Planner) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let Some(step) = planner.next_move() else {
            let Some((id, _)) = planner.next_fetch() else {
                return seen;
            };
            seen.push(format!("fetch {}", id.0));
            assert_eq!(planner.fetched(id), Received::Keep);
            continue;
        };
        seen.push(describe(&step));
        if let Some(id) = moved(&step) {
            assert!(planner.is_current(id));
            planner.report(id, Outcome::Done);
        }
    }
}

/// The image of a step whose result the planner waits for.
fn moved(step: &Step) -> Option<ImageId> {
    match step {
        Step::Rename { id, .. }
        | Step::KeepAside { id, .. }
        | Step::Place { id, .. }
        | Step::Replace { id, .. } => Some(*id),
        _ => None,
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Rename { id, from, to, .. } => format!("rename {} {from} {to}", id.0),
        Step::KeepAside { id, from, to } => format!("aside {} {from} {to}", id.0),
        Step::Place { id, to } => format!("place {} {to}", id.0),
        Step::Replace { id, to, expect } => {
            let expect = match expect {
                Expect::Image(id) => format!("image {}", id.0),
                Expect::Copy { id, other } => format!("copy {} {other}", id.0),
                other => format!("{other:?}"),
            };
            format!("replace {} {to} {expect}", id.0)
        }
        Step::Discard { id } => format!("discard {}", id.0),
        Step::Refuse { id, reason } => format!("refuse {} {reason:?}", id.0),
        other => panic!("{other:?}"),
    }
}

/// Does, or checks, what a line of a script says.
fn act(planner: &mut Planner, line: &str) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let id = |text: &str| ImageId(text.parse().unwrap_or_else(|_| panic!("{line}")));
    match word {
        // Another planner, with these options.
        "new" => *planner = Planner::new(words.iter().copied().fold(Options::new(), option)),
        // A scan. `case-sensitive` and `case-insensitive` say what the file system is.
        "folder" => planner.set_folder(inventory(&words)),
        // A whole LIST; the first part of one, and the rest; one with fewer entries than promised; the failure of one.
        "list" | "part" | "rest" | "incomplete" => {
            if word != "rest" {
                planner.begin_list();
            }
            for (name, id) in words.iter().map(|word| image(word)) {
                match name.strip_prefix('!') {
                    Some(name) => planner.leave_out(id, name, Png, length(id)),
                    None => planner.entry(id, name, Png, length(id)),
                }
            }
            if word != "part" {
                let _ = planner.end_list(word != "incomplete");
            }
        }
        "list-fails" => planner.list_failed(),
        "no-more-lists" => planner.no_more_lists(),
        "event" => match image(rest) {
            (name, id) if name.starts_with('!') => {
                planner.leave_out(id, &name[1..], Png, length(id));
            }
            (name, id) => planner.announce(id, name, Png, length(id)),
        },
        // A connection requests the next image, which arrives.
        "gets" => {
            act(planner, &format!("request {rest}"));
            act(planner, &format!("keeps {rest}"));
        }
        // What a connection requests next: an image, nothing, or everything, which is this many.
        "request" => match rest.strip_prefix("everything ") {
            Some(count) => assert_eq!(planner.fetch_all().images.to_string(), count, "{line}"),
            None => {
                let next = planner.next_fetch().map(|(id, _)| id.0.to_string());
                assert_eq!(next.as_deref().unwrap_or("nothing"), rest);
            }
        },
        // An image arrives, and is kept or not.
        "keeps" => assert_eq!(planner.fetched(id(rest)), Received::Keep, "{line}"),
        "discards" => assert_eq!(planner.fetched(id(rest)), Received::Discard, "{line}"),
        // A request for one image, or all of them, fails.
        "fails" => match words[0] {
            "all" => {
                planner.requests_ended(failure(words[1]));
                assert_eq!(planner.requested(), Count::default());
            }
            image => planner.fetch_failed(id(image), failure(words[1])),
        },
        "retry" => planner.retry_failed(),
        // What the caller finds in the folder.
        "found" => {
            let (name, found) = rest.split_once('=').expect(line);
            planner.file_found(name, kind(found));
        }
        "gone" => planner.file_gone(rest),
        // A step that is not carried out before its result is reported, or none.
        "begins" => {
            let step = planner.next_move().as_ref().map(describe);
            assert_eq!(step.as_deref().unwrap_or("nothing"), rest);
        }
        "done" => planner.report(id(rest), Outcome::Done),
        "stale" => planner.report(id(rest), Outcome::Stale),
        "failed" => planner.report(id(rest), Outcome::Failed),
        "current" => assert!(planner.is_current(id(rest)), "{line}"),
        "outdated" => assert!(!planner.is_current(id(rest)), "{line}"),
        "wants-list" => assert!(planner.wants_list()),
        "wants-no-list" => assert!(!planner.wants_list()),
        "finished" => assert!(planner.is_finished()),
        "unfinished" => assert!(!planner.is_finished()),
        "have" => {
            let have: Vec<String> = planner.have().map(|id| id.0.to_string()).collect();
            assert_eq!(have, words, "{line}");
        }
        total => assert_eq!(count(planner, total).to_string(), rest, "{line}"),
    }
}

fn option(options: Options, word: &str) -> Options {
    match word {
        "any-names" => options.with_names(Names::Any),
        "fetch-all" => options.with_fetch(Fetch::All),
        "flat" => options.with_folders(false),
        "keep-existing" => options.with_keep_existing(true),
        "three-attempts" => options.with_attempts(3),
        other => panic!("unknown option {other}"),
    }
}

/// A number of images.
fn count(planner: &Planner, what: &str) -> u64 {
    let totals = planner.totals();
    let count = match what {
        "wanted" => planner.wanted(),
        "requested" => planner.requested(),
        "planned" => totals.planned,
        "fetched" => totals.fetched,
        "unfetched" => totals.unfetched,
        "kept" => totals.kept,
        "renamed" => totals.renamed,
        "placed" => totals.placed,
        "replaced" => totals.replaced,
        "misnamed" => totals.misnamed,
        "left-out" => totals.left_out,
        "all-failures" => return totals.failed(),
        "folders" => return planner.folders() as u64,
        other => panic!("unknown word {other}"),
    };
    assert_eq!(
        count == Count::default(),
        count.images == 0,
        "{what}: bytes without images, or the reverse"
    );
    count.images
}

/// A name and an ID.
fn image(word: &str) -> (&str, ImageId) {
    let (name, id) = word.split_once('=').expect(word);
    (name, ImageId(id.parse().expect(word)))
}

fn kind(text: &str) -> FileKind {
    match text {
        "other" => FileKind::Other,
        "folder" => FileKind::Folder,
        "reserved" => FileKind::Reserved,
        "unread" => FileKind::Unread,
        text => match text.strip_prefix("unrecognised-") {
            Some(id) => FileKind::Unrecognised(ImageId(id.parse().expect(text))),
            None => FileKind::Image(ImageId(text.parse().expect(text))),
        },
    }
}

fn inventory(words: &[&str]) -> Inventory {
    let mut inventory = Inventory::new();
    for word in words {
        match word.split_once('=') {
            Some((name, found)) => assert!(inventory.add(name, kind(found)), "{word}"),
            None => inventory.set_case_sensitive(*word == "case-sensitive"),
        }
    }
    inventory
}

fn failure(text: &str) -> FetchFailure {
    match text {
        "Broken" => FetchFailure::Broken,
        "Final" => FetchFailure::Final,
        "Interrupted" => FetchFailure::Interrupted,
        "NotSent" => FetchFailure::NotSent,
        other => panic!("unknown failure {other}"),
    }
}
