//! A server's connection. // Sections 6.2, 7 and 8

use std::cell::RefCell;
use std::rc::Rc;

use super::wire::{self, Entry, Fields, Head, Image, Stop};
use super::{BATCH, CANCEL, GET_BY_ID, LIST, WATCH};

/// A catalog at one time. // S3
#[derive(Debug)]
pub struct Snapshot {
    /// In catalog order. // S5
    pub entries: Vec<Entry>,
    /// The new images of the catalog so far, also those after this snapshot.
    pub history: Rc<RefCell<Vec<Entry>>>,
    /// The number of those up to this snapshot. // N1
    pub events: usize,
}

impl Snapshot {
    /// An image of the catalog.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Image> {
        let mut images = self.entries.iter().map(|entry| entry.image);
        images.find(|image| image.id == id)
    }
}

/// The states of section 6.2. Fresh and Kept are one, see `kept`; Last is Responding without `keep_alive`.
#[derive(Debug)]
enum State {
    Head,
    /// In section 6.2 already Responding, Last, Watching or IDs: the server has not decided on the request.
    Deciding {
        head: Head,
        cancelled: bool,
    },
    Ids {
        head: Head,
        snapshot: Rc<Snapshot>,
    },
    Responding {
        keep_alive: bool,
        /// Its CANCEL is read and not answered.
        cancelled: bool,
        /// The images that are not opened yet, the next one last.
        packets: Vec<Image>,
    },
    Watching {
        history: Rc<RefCell<Vec<Entry>>>,
        /// The number of events shown, from the beginning of the history.
        position: usize,
        /// A CANCEL that came before the decision is not answered. Events may precede its answer.
        cancelled: bool,
    },
    Ending,
}

/// Follows a server: which bytes of its client it reads, and which bytes it shows to be sent.
#[derive(Debug)]
pub struct Server {
    watch: bool,
    max_have: u32,
    state: State,
    /// There was a keep-alive request or a WATCH. // C4
    kept: bool,
    /// The part of a request that is read.
    input: Vec<u8>,
    /// What is to be shown next.
    due: Vec<u8>,
    /// What is due is a catalog or a packet, at whose end the next boundary is, and not only the head of a response.
    is_inside: bool,
    /// The code of the JTPE that is to be shown once nothing else is due, and what was shown of it.
    error: Option<(u8, Vec<u8>)>,
    /// A body ends early. // S13
    is_short: bool,
    /// Where a WATCH directly behind the LIST begins. // N5
    watch_from: Option<(Rc<RefCell<Vec<Entry>>>, usize)>,
}

impl Server {
    /// A connection of a server with these settings.
    #[must_use]
    pub fn new(watch: bool, max_have: u32) -> Server {
        Server {
            watch,
            max_have,
            state: State::Head,
            kept: false,
            input: Vec::new(),
            due: Vec::new(),
            is_inside: false,
            error: None,
            is_short: false,
            watch_from: None,
        }
    }

    /// The request on which the server has to decide.
    #[must_use]
    pub fn waiting(&self) -> Option<Head> {
        match self.state {
            State::Deciding { head, .. } => Some(head),
            _ => None,
        }
    }

    /// The server uses bytes of its client.
    pub fn read(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while !self.input.is_empty() && self.read_one() {}
    }

    /// The reaction to an input, a row of the table.
    fn read_one(&mut self) -> bool {
        let mut fields = Fields(&self.input);
        let head = fields.head();
        let used = self.input.len() - fields.0.len();
        let is_cancel = matches!(head, Ok(head) if head.code == CANCEL);
        match &mut self.state {
            State::Head => match head {
                Ok(head) => self.begin(head),
                Err(Stop::Cut) => return false,
                Err(Stop::Bad(code)) => self.fail(code), // S10
            },
            State::Deciding { head, cancelled } => {
                assert!(is_cancel && head.ids == 0 && !*cancelled, "S1 C5: {head:?}");
                *cancelled = true;
            }
            State::Ids { head, snapshot } => {
                let length = head.ids as usize * 8;
                if self.input.len() < length {
                    return false;
                }
                let ids = self.input.drain(..length).collect::<Vec<u8>>();
                let ids = ids.chunks(8).map(|id| Fields(id).number(8).unwrap());
                let (head, snapshot) = (*head, Rc::clone(snapshot));
                self.respond(head, false, &snapshot, &ids.collect::<Vec<_>>());
                return true;
            }
            // The response may be complete, and all of it shown; then the next request is read once all of it is sent.
            State::Responding {
                keep_alive,
                cancelled,
                packets,
            } if !is_cancel => {
                let is_complete = packets.is_empty() && self.due.is_empty();
                assert!(*keep_alive && !*cancelled && is_complete, "S1 S2: {self:?}");
                self.state = State::Head;
                return true;
            }
            State::Responding { cancelled, .. } => {
                assert!(!*cancelled, "C1: a second CANCEL is left");
                *cancelled = true;
                if self.due.is_empty() || !self.is_inside {
                    self.stop();
                }
            }
            // N3
            State::Watching { .. } if self.input == [CANCEL] => return false,
            State::Watching {
                cancelled: false, ..
            } if is_cancel => self.answer_cancel(),
            State::Watching {
                cancelled: false, ..
            } => self.fail(2),
            State::Watching { .. } => panic!("C1: a second CANCEL is left"),
            State::Ending => self.input.clear(),
        }
        self.input.drain(..used.min(self.input.len()));
        true
    }

    /// A request's turn.
    fn begin(&mut self, head: Head) {
        let watches = head.code == WATCH;
        if !watches {
            self.watch_from = None;
        }
        match head.code {
            CANCEL if self.kept => self.answer_cancel(),       // C3
            CANCEL => self.fail(2),                            // C4
            WATCH if !self.watch => self.fail(4),              // S10
            BATCH if head.ids > self.max_have => self.fail(2), // S8
            _ => {
                self.kept |= head.keep_alive || watches;
                self.state = State::Deciding {
                    head,
                    cancelled: false,
                };
            }
        }
    }

    /// The server ends the connection by JTPE. // S11
    pub fn fail(&mut self, code: u8) {
        self.error = Some((code, Vec::new()));
        self.input.clear();
        self.state = State::Ending;
    }

    /// CANCEL ends a response at a boundary. // C2 C4
    fn stop(&mut self) {
        match self.is_last() {
            true => self.fail(2),
            false => self.answer_cancel(),
        }
    }

    fn answer_cancel(&mut self) {
        self.is_inside = false;
        self.due.extend_from_slice(b"JTPC");
        self.state = State::Responding {
            keep_alive: true,
            cancelled: false,
            packets: Vec::new(),
        };
    }

    /// The server answers the waiting request from this snapshot. `input` is what it has of its client's bytes beyond.
    ///
    /// # Panics
    ///
    /// If no request waits.
    pub fn accept(&mut self, snapshot: &Rc<Snapshot>, input: &[u8]) {
        let State::Deciding { head, cancelled } = self.state else {
            panic!("no request waits: {self:?}");
        };
        let begin = (Rc::clone(&snapshot.history), snapshot.events);
        let watch_from = self.watch_from.take();
        match head.code {
            WATCH => {
                // The position of a LIST in another history says nothing.
                let same = watch_from.filter(|(history, _)| Rc::ptr_eq(history, &begin.0));
                let (history, position) = same.unwrap_or(begin);
                self.state = State::Watching {
                    history,
                    position,
                    cancelled,
                };
                return;
            }
            LIST if head.keep_alive && !cancelled => {
                let follows = matches!(Fields(input).head(), Ok(next) if next.code == WATCH);
                self.watch_from = follows.then_some(begin); // N5
            }
            _ => {}
        }
        if head.ids > 0 {
            self.state = State::Ids {
                head,
                snapshot: Rc::clone(snapshot),
            };
        } else {
            self.respond(head, cancelled, snapshot, &[]);
        }
    }

    /// The answer to a request.
    fn respond(&mut self, head: Head, cancelled: bool, snapshot: &Snapshot, ids: &[u64]) {
        let all = snapshot.entries.iter().map(|entry| entry.image);
        let images: Vec<Image> = match head.code {
            GET_BY_ID => ids.iter().filter_map(|id| snapshot.get(*id)).collect(), // S7
            BATCH => all.filter(|image| !ids.contains(&image.id)).collect(),      // S8
            _ => all.collect(),
        };
        self.due.extend(wire::response(head.code, images.len()));
        let mut packets = images;
        self.is_inside = head.code == LIST;
        if self.is_inside {
            self.due
                .extend(crate::joined(snapshot.entries.iter().map(Entry::bytes)));
            packets.clear();
        }
        packets.reverse();
        let keep_alive = head.keep_alive;
        self.state = State::Responding {
            keep_alive,
            cancelled,
            packets,
        };
    }

    /// The server opens an image that it listed, perhaps in another variant, whose packet is next. // S6
    ///
    /// # Panics
    ///
    /// If another image is next.
    pub fn open(&mut self, listed: Image, opened: Image, body: &[u8]) {
        let State::Responding {
            cancelled: false,
            packets,
            ..
        } = &mut self.state
        else {
            panic!("C2: a packet after CANCEL, or outside of a response: {self:?}");
        };
        assert_eq!(packets.pop(), Some(listed), "S5 S7 S8");
        self.is_inside = true;
        self.due.extend(opened.head());
        self.due.extend_from_slice(body);
    }

    /// The next image, or the rest of the one being sent, cannot be had. // S12 S13
    pub fn body_failed(&mut self) {
        if self.due.is_empty() {
            self.fail(3);
        } else {
            self.is_short = true;
            self.due.clear();
            self.state = State::Ending;
        }
    }

    /// The server shows further bytes to send. Where one frame may follow another, it shows at least the header.
    ///
    /// # Panics
    ///
    /// If they are not what the table allows.
    pub fn shown(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.due.is_empty() {
                if let Some((code, frame)) = &mut self.error {
                    frame.extend_from_slice(bytes);
                    check_error(*code, frame);
                    return;
                }
                self.next_frame(bytes);
                continue;
            }
            let count = bytes.len().min(self.due.len());
            assert!(bytes[..count] == self.due[..count], "{bytes:?} in {self:?}");
            self.due.drain(..count);
            bytes = &bytes[count..];
        }
    }

    /// What comes at a boundary without a call that says so: events, and the answer to CANCEL.
    fn next_frame(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Responding {
                cancelled: true, ..
            } => self.stop(),
            State::Watching {
                history, position, ..
            } if bytes.starts_with(b"JTPW") => {
                let history = history.borrow();
                let entry = history.get(*position).expect("N1: an event of a new image");
                self.due = [b"JTPW", &entry.bytes()[..]].concat();
                *position += 1;
            }
            State::Watching {
                cancelled: true, ..
            } => self.answer_cancel(), // N3
            _ => panic!("nothing is due: {bytes:?} in {self:?}"),
        }
    }

    /// Whether no frame is shown in part.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether everything that was read is answered, except a WATCH, which goes on. // C1 T5
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.due.is_empty()
            && match &self.state {
                State::Head => true,
                State::Responding {
                    cancelled, packets, ..
                } => !cancelled && packets.is_empty(),
                State::Watching { cancelled, .. } => !cancelled,
                _ => false,
            }
    }

    /// Whether no further request is read. // S2
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(
            self.state,
            State::Responding {
                keep_alive: false,
                ..
            }
        )
    }

    /// Whether a WATCH goes on.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        matches!(self.state, State::Watching { .. })
    }

    /// Whether a part of a request is read.
    #[must_use]
    pub fn is_inside_request(&self) -> bool {
        !self.input.is_empty() || matches!(self.state, State::Ids { .. })
    }

    /// Whether a body ended early. // S13
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// The code of the JTPE that ends the connection, if it is shown as a whole.
    #[must_use]
    pub fn error(&self) -> Option<u8> {
        let (code, frame) = self.error.as_ref()?;
        (check_error(*code, frame) == Some(0)).then_some(*code)
    }

    /// The events that a WATCH has not shown.
    #[must_use]
    pub fn unreported(&self) -> usize {
        match &self.state {
            State::Watching {
                history, position, ..
            } => history.borrow().len() - position,
            _ => 0,
        }
    }
}

/// Checks what is shown of a JTPE, and returns how many bytes of its message are missing.
fn check_error(code: u8, frame: &[u8]) -> Option<usize> {
    let start = [b'J', b'T', b'P', b'E', code];
    let count = frame.len().min(5);
    assert_eq!(frame[..count], start[..count], "S11");
    let length = Fields(frame.get(5..)?).number(2).ok()? as usize;
    Some(
        (7 + length)
            .checked_sub(frame.len())
            .expect("S11: output after JTPE"),
    )
}
