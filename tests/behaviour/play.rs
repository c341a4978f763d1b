//! Executes a script on any client and environment, and logs what the client's application observes.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use jtp_core::client::HaveSet;
use jtp_core::{Image, ImageHasher, ImageId};

use super::script::{
    ClientAction, FetchStep, Script, Selection, ServerAction, Step, Trigger, WatchAction, WatchStep,
};
use super::store::{PROBE, SimulatedStore};
use super::traits::{
    ClientUnderTest, Entry, Environment, FetchControl, ImageEvent, ImageRequest, WatchControl,
    WatchEvent,
};

/// The client's log. It can be read from another thread when the run hangs.
#[derive(Clone, Default)]
pub(crate) struct ClientLog(Arc<Mutex<Vec<String>>>);

impl ClientLog {
    pub(crate) fn push(&self, line: String) {
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

/// Executes all steps, then closes the client.
pub(crate) fn play(
    script: &Script,
    client: &mut dyn ClientUnderTest,
    environment: &dyn Environment,
    log: &ClientLog,
) {
    for step in &script.steps {
        match step {
            Step::List => {
                log.push("LIST".into());
                match client.list() {
                    Ok(entries) => log_catalog(log, environment.store(), &entries),
                    Err(error) => log.push(format!("  error: {error}")),
                }
            }
            Step::Fetch(step) => fetch(step, client, environment, log),
            Step::CancelIdle { selection, after } => {
                let place = if *after { "after" } else { "before" };
                log.push(format!("cancel {place} {selection:?}"));
                if let Err(error) =
                    client.cancel_idle(&image_request(selection, environment.store()), *after)
                {
                    log.push(format!("  error: {error}"));
                }
            }
            Step::Watch(step) => watch(step, client, environment, log),
            Step::Close => {
                log.push("close".into());
                client.close();
            }
            Step::Do(action) => perform(action, environment, log),
        }
    }
    client.close();
}

fn perform(action: &ServerAction, environment: &dyn Environment, log: &ClientLog) {
    log.push(format!("  ({action:?})"));
    match action {
        ServerAction::Shutdown => environment.shutdown(),
        ServerAction::Hold => environment.hold(),
        ServerAction::Stall => environment.stall(),
        ServerAction::AwaitClosed => environment.await_closed(),
        ServerAction::Wait(time) => environment.wait(*time),
        action => environment.store().change(action),
    }
}

fn describe_entry(store: &SimulatedStore, entry: &Entry) -> String {
    format!(
        "  {} {} flags {:02x} size {} ({})",
        entry.id,
        entry.name,
        entry.flags.bits(),
        entry.length,
        store.name(entry.id),
    )
}

fn log_catalog(log: &ClientLog, store: &SimulatedStore, entries: &[Entry]) {
    const MAX_LOGGED: usize = 40;
    let mut all = ImageHasher::new();
    for (n, entry) in entries.iter().enumerate() {
        let line = describe_entry(store, entry);
        all.update(line.as_bytes());
        if n < MAX_LOGGED {
            log.push(line);
        }
    }
    log.push(format!("  {} entries ({})", entries.len(), all.id()));
}

/// The image that is being received.
struct IncomingImage {
    image: Image,
    bytes: usize,
    hasher: ImageHasher,
}

struct FetchObserver<'a> {
    environment: &'a dyn Environment,
    log: &'a ClientLog,
    /// The triggers that have not fired yet.
    triggers: RefCell<Vec<Trigger>>,
    incoming: RefCell<Option<IncomingImage>>,
}

fn image_request(selection: &Selection, store: &SimulatedStore) -> ImageRequest {
    let ids = |names: &[&'static str]| names.iter().map(|n| store.id(n)).collect::<Vec<_>>();
    match selection {
        Selection::Get(names) => ImageRequest::Get(ids(names)),
        Selection::Batch(names) => ImageRequest::Batch(HaveSet::try_from(ids(names)).unwrap()),
        Selection::BatchOf(names, others) => {
            let others = (0..u64::from(*others)).map(|n| ImageId(n << 20));
            let have = ids(names).into_iter().chain(others);
            ImageRequest::Batch(HaveSet::try_from_iter(have).unwrap())
        }
        Selection::All => ImageRequest::All,
    }
}

fn fetch(
    step: &FetchStep,
    client: &mut dyn ClientUnderTest,
    environment: &dyn Environment,
    log: &ClientLog,
) {
    log.push(format!("{:?}", step.selection));
    let request = image_request(&step.selection, environment.store());
    let observer = FetchObserver {
        environment,
        log,
        triggers: RefCell::new(step.triggers.clone()),
        incoming: RefCell::new(None),
    };
    let result = client.fetch(&request, &mut |event| observer.on_event(event));
    match result {
        Ok(end) => {
            let absent: Vec<_> = end
                .absent
                .iter()
                .map(|id| (id, environment.store().name(*id)))
                .collect();
            let how = if end.cancelled { "cancelled" } else { "end" };
            let promised = end.promised;
            log.push(format!("  {how}, {promised} promised, absent: {absent:?}"));
        }
        Err(error) => log.push(format!("  error: {error}")),
    }
    let left = observer.triggers.into_inner();
    if !left.is_empty() {
        log.push(format!("  triggers that did not fire: {left:?}"));
    }
}

impl FetchObserver<'_> {
    fn on_event(&self, event: ImageEvent<'_>) -> FetchControl {
        let mut incoming = self.incoming.borrow_mut();
        match (event, &mut *incoming) {
            (ImageEvent::Image(image), _) => {
                let name = self.environment.store().name(image.id);
                let (flags, length) = (image.flags.bits(), image.length);
                self.log.push(format!(
                    "  image {} ({name}) flags {flags:02x} length {length}",
                    image.id
                ));
                *incoming = Some(IncomingImage {
                    image,
                    bytes: 0,
                    hasher: ImageHasher::new(),
                });
            }
            (ImageEvent::Bytes(bytes), Some(incoming)) => {
                assert!(!bytes.is_empty(), "an empty chunk");
                incoming.bytes += bytes.len();
                incoming.hasher.update(bytes);
            }
            (ImageEvent::Verified, Some(image)) => {
                let (bytes, id) = (image.bytes, image.hasher.id());
                self.log.push(format!("    verified: {bytes} bytes, {id}"));
                *incoming = None;
            }
            (ImageEvent::Fault { fault, last }, Some(_)) => {
                self.log
                    .push(format!("    invalid: {fault} (last: {last})"));
                *incoming = None;
            }
            (ImageEvent::Interrupted, Some(image)) => {
                // For a compressed image the number of decoded bytes depends on how the input was split; and
                // a server thread that waits for a gated body may hold back the last TLS record.
                let compressed = image.image.flags.is_compressed();
                let bytes = match compressed || self.environment.store().holds_back() {
                    true => String::new(),
                    false => format!(" after {} bytes", image.bytes),
                };
                self.log.push(format!("    interrupted{bytes}"));
                *incoming = None;
            }
            (event, None) => panic!("{event:?} outside an image"),
        }
        let Some(at) = incoming.as_ref().map(|c| (c.image.id, c.bytes)) else {
            return FetchControl::Continue;
        };
        drop(incoming);
        self.fire_triggers(at.0, at.1)
    }

    fn fire_triggers(&self, id: ImageId, bytes: usize) -> FetchControl {
        loop {
            let triggered = {
                let mut triggers = self.triggers.borrow_mut();
                let is_ready =
                    |w: &Trigger| self.environment.store().id(w.name) == id && w.bytes <= bytes;
                let at = triggers.iter().position(is_ready);
                at.map(|at| triggers.remove(at))
            };
            match triggered.map(|trigger| trigger.action) {
                None => return FetchControl::Continue,
                Some(ClientAction::Do(action)) => perform(&action, self.environment, self.log),
                Some(ClientAction::Cancel) => {
                    self.log.push("    cancel".into());
                    self.environment.hold();
                    return FetchControl::Cancel;
                }
                Some(ClientAction::CancelUnread) => {
                    self.log.push("    cancel".into());
                    return FetchControl::Cancel;
                }
                Some(ClientAction::Skip) => {
                    self.log.push("    skip".into());
                    return FetchControl::Skip;
                }
                Some(ClientAction::Drop) => {
                    self.log.push("    drop".into());
                    return FetchControl::Drop;
                }
            }
        }
    }
}

fn watch(
    step: &WatchStep,
    client: &mut dyn ClientUnderTest,
    environment: &dyn Environment,
    log: &ClientLog,
) {
    let request = if step.list { "LIST, WATCH" } else { "WATCH" };
    log.push(request.into());
    let mut steps = step.actions.iter();
    let mut remaining = 0;
    let mut probe = step.probe;
    let next_action = |steps: &mut std::slice::Iter<'_, WatchAction>, remaining: &mut usize| {
        loop {
            match steps.next() {
                Some(WatchAction::Receive(count)) => {
                    *remaining = *count;
                    return WatchControl::Wait;
                }
                Some(WatchAction::Cancel) => {
                    log.push("  cancel".into());
                    return WatchControl::Cancel;
                }
                Some(WatchAction::Do(action)) => perform(action, environment, log),
                None => {
                    log.push("  drop".into());
                    return WatchControl::Drop;
                }
            }
        }
    };
    let result = client.watch(step.list, &mut |event| {
        match event {
            WatchEvent::Started(entries) => {
                if let Some(entries) = entries {
                    log_catalog(log, environment.store(), &entries);
                }
                if probe {
                    environment.start_probe();
                    return WatchControl::Wait;
                }
            }
            WatchEvent::NewImage(entry) if entry.name == PROBE => {
                if !probe {
                    return WatchControl::Wait; // It was added more than once.
                }
                probe = false;
                environment.probe_received();
            }
            WatchEvent::NewImage(entry) => {
                log.push(format!(
                    "  new: {}",
                    describe_entry(environment.store(), &entry)
                ));
                remaining -= 1;
                if remaining > 0 {
                    return WatchControl::Wait;
                }
            }
        }
        next_action(&mut steps, &mut remaining)
    });
    match result {
        Ok(None) => {}
        Ok(Some(last)) => {
            for entry in last.iter().filter(|entry| entry.name != PROBE) {
                log.push(format!(
                    "  new after CANCEL: {}",
                    describe_entry(environment.store(), entry)
                ));
            }
            log.push("  cancelled".into());
        }
        Err(error) => log.push(format!("  error: {error}")),
    }
}
