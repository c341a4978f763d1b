//! Runs a script, whoever is at the ends, and writes down what the client's application saw.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use jtp_core::client::HaveSet;
use jtp_core::{Image, ImageHasher, ImageId};

use super::ends::{Ask, ClientEnd, Entry, News, Next, Seen, Stage, Then};
use super::script::{Act, Deed, Fetch, Script, Step, Watch, Watching, When, Which};
use super::store::{BEACON, Store};

/// What was seen so far; to be looked at from elsewhere when the run hangs.
#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, line: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Runs the script from the first step to the last, and closes the client.
pub(crate) fn play(script: &Script, client: &mut dyn ClientEnd, stage: &dyn Stage, diary: &Diary) {
    for step in &script.steps {
        match step {
            Step::List => {
                diary.note("LIST".into());
                match client.list() {
                    Ok(entries) => catalog(diary, stage.store(), &entries),
                    Err(error) => diary.note(format!("  error: {error}")),
                }
            }
            Step::Fetch(what) => fetch(what, client, stage, diary),
            Step::CancelNothing { which, after } => {
                let place = if *after { "after" } else { "before" };
                diary.note(format!("cancel {place} {which:?}"));
                if let Err(error) = client.cancel_nothing(&ask(which, stage.store()), *after) {
                    diary.note(format!("  error: {error}"));
                }
            }
            Step::Watch(what) => watch(what, client, stage, diary),
            Step::Close => {
                diary.note("close".into());
                client.close();
            }
            Step::Do(deed) => perform(deed, stage, diary),
        }
    }
    client.close();
}

fn perform(deed: &Deed, stage: &dyn Stage, diary: &Diary) {
    diary.note(format!("  ({deed:?})"));
    match deed {
        Deed::Shutdown => stage.shutdown(),
        Deed::Hold => stage.hold(),
        Deed::Stall => stage.stall(),
        Deed::AwaitEnd => stage.await_end(),
        Deed::Outlast(time) => stage.outlast(*time),
        deed => stage.store().change(deed),
    }
}

fn shown(store: &Store, entry: &Entry) -> String {
    format!(
        "  {} {} flags {:02x} size {} ({})",
        entry.id,
        entry.name,
        entry.flags.bits(),
        entry.length,
        store.name(entry.id),
    )
}

fn catalog(diary: &Diary, store: &Store, entries: &[Entry]) {
    const MOST: usize = 40;
    let mut all = ImageHasher::new();
    for (n, entry) in entries.iter().enumerate() {
        let line = shown(store, entry);
        all.update(line.as_bytes());
        if n < MOST {
            diary.note(line);
        }
    }
    diary.note(format!("  {} entries ({})", entries.len(), all.id()));
}

/// The image that is coming.
struct Coming {
    image: Image,
    bytes: usize,
    hasher: ImageHasher,
}

struct Fetching<'a> {
    stage: &'a dyn Stage,
    diary: &'a Diary,
    /// What has not happened yet.
    when: RefCell<Vec<When>>,
    coming: RefCell<Option<Coming>>,
}

fn ask(which: &Which, store: &Store) -> Ask {
    let ids = |names: &[&'static str]| names.iter().map(|n| store.id(n)).collect::<Vec<_>>();
    match which {
        Which::Get(names) => Ask::Get(ids(names)),
        Which::Batch(names) => Ask::Batch(HaveSet::try_from(ids(names)).unwrap()),
        Which::BatchOf(names, others) => {
            let others = (0..u64::from(*others)).map(|n| ImageId(n << 20));
            let had = ids(names).into_iter().chain(others);
            Ask::Batch(HaveSet::try_from_iter(had).unwrap())
        }
        Which::All => Ask::All,
    }
}

fn fetch(what: &Fetch, client: &mut dyn ClientEnd, stage: &dyn Stage, diary: &Diary) {
    diary.note(format!("{:?}", what.which));
    let ask = ask(&what.which, stage.store());
    let fetching = Fetching {
        stage,
        diary,
        when: RefCell::new(what.when.clone()),
        coming: RefCell::new(None),
    };
    let ended = client.fetch(&ask, &mut |seen| fetching.sees(seen));
    match ended {
        Ok(end) => {
            let absent: Vec<_> = end
                .absent
                .iter()
                .map(|id| (id, stage.store().name(*id)))
                .collect();
            let how = if end.cancelled { "cancelled" } else { "end" };
            let promised = end.promised;
            diary.note(format!("  {how}, {promised} promised, absent: {absent:?}"));
        }
        Err(error) => diary.note(format!("  error: {error}")),
    }
    let left = fetching.when.into_inner();
    if !left.is_empty() {
        diary.note(format!("  did not come to: {left:?}"));
    }
}

impl Fetching<'_> {
    fn sees(&self, seen: Seen<'_>) -> Next {
        let mut coming = self.coming.borrow_mut();
        match (seen, &mut *coming) {
            (Seen::Image(image), _) => {
                let name = self.stage.store().name(image.id);
                let (flags, length) = (image.flags.bits(), image.length);
                self.diary.note(format!(
                    "  image {} ({name}) flags {flags:02x} length {length}",
                    image.id
                ));
                *coming = Some(Coming {
                    image,
                    bytes: 0,
                    hasher: ImageHasher::new(),
                });
            }
            (Seen::Bytes(bytes), Some(coming)) => {
                assert!(!bytes.is_empty(), "a chunk of nothing");
                coming.bytes += bytes.len();
                coming.hasher.update(bytes);
            }
            (Seen::Good, Some(came)) => {
                let (bytes, id) = (came.bytes, came.hasher.id());
                self.diary.note(format!("    good: {bytes} bytes, {id}"));
                *coming = None;
            }
            (Seen::Fault { fault, last }, Some(_)) => {
                self.diary.note(format!("    bad: {fault} (last: {last})"));
                *coming = None;
            }
            (Seen::Interrupted, Some(came)) => {
                // How much of a decoded image was seen before depends on how its bytes came; and a thread that
                // waits for a body it serves may hold the last record of TLS back meanwhile.
                let packed = came.image.flags.is_compressed();
                let bytes = match packed || self.stage.store().holds_back() {
                    true => String::new(),
                    false => format!(" after {} bytes", came.bytes),
                };
                self.diary.note(format!("    interrupted{bytes}"));
                *coming = None;
            }
            (seen, None) => panic!("{seen:?} outside of an image"),
        }
        let Some(at) = coming.as_ref().map(|c| (c.image.id, c.bytes)) else {
            return Next::Go;
        };
        drop(coming);
        self.act(at.0, at.1)
    }

    fn act(&self, id: ImageId, bytes: usize) -> Next {
        loop {
            let due = {
                let mut when = self.when.borrow_mut();
                let is_due = |w: &When| self.stage.store().id(w.name) == id && w.bytes <= bytes;
                let at = when.iter().position(is_due);
                at.map(|at| when.remove(at))
            };
            match due.map(|when| when.act) {
                None => return Next::Go,
                Some(Act::Do(deed)) => perform(&deed, self.stage, self.diary),
                Some(Act::Cancel) => {
                    self.diary.note("    cancel".into());
                    self.stage.hold();
                    return Next::Cancel;
                }
                Some(Act::CancelFromAfar) => {
                    self.diary.note("    cancel".into());
                    return Next::Cancel;
                }
                Some(Act::Skip) => {
                    self.diary.note("    skip".into());
                    return Next::Skip;
                }
                Some(Act::Leave) => {
                    self.diary.note("    leave".into());
                    return Next::Leave;
                }
            }
        }
    }
}

fn watch(what: &Watch, client: &mut dyn ClientEnd, stage: &dyn Stage, diary: &Diary) {
    let request = if what.list { "LIST, WATCH" } else { "WATCH" };
    diary.note(request.into());
    let mut steps = what.then.iter();
    let mut due = 0;
    let mut beacon = what.beacon;
    let go_on = |steps: &mut std::slice::Iter<'_, Watching>, due: &mut usize| {
        loop {
            match steps.next() {
                Some(Watching::Next(count)) => {
                    *due = *count;
                    return Then::Wait;
                }
                Some(Watching::Cancel) => {
                    diary.note("  cancel".into());
                    return Then::Cancel;
                }
                Some(Watching::Do(deed)) => perform(deed, stage, diary),
                None => {
                    diary.note("  leave".into());
                    return Then::Leave;
                }
            }
        }
    };
    let ended = client.watch(what.list, &mut |news| {
        match news {
            News::Begun(entries) => {
                if let Some(entries) = entries {
                    catalog(diary, stage.store(), &entries);
                }
                if beacon {
                    stage.beacon();
                    return Then::Wait;
                }
            }
            News::Image(entry) if entry.name == BEACON => {
                if !beacon {
                    return Then::Wait; // It blinked more than once.
                }
                beacon = false;
                stage.beacon_seen();
            }
            News::Image(entry) => {
                diary.note(format!("  new: {}", shown(stage.store(), &entry)));
                due -= 1;
                if due > 0 {
                    return Then::Wait;
                }
            }
        }
        go_on(&mut steps, &mut due)
    });
    match ended {
        Ok(None) => {}
        Ok(Some(last)) => {
            for entry in last.iter().filter(|entry| entry.name != BEACON) {
                diary.note(format!("  at last: {}", shown(stage.store(), entry)));
            }
            diary.note("  cancelled".into());
        }
        Err(error) => diary.note(format!("  error: {error}")),
    }
}
