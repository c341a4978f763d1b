//! What a server's output has to be, whatever its client does: whole frames in the order of the requests,
//! each count kept, and nothing behind an error.

use std::collections::VecDeque;

use jtp_core::wire::request::{RequestHead, RequestKind};
use jtp_core::wire::response::{self, ErrorFrame, HEADER_LEN, Header};
use jtp_core::wire::{Decoded, entry, packet};

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Boundary,
    Entries(u32),
    Packets(u32),
    Body {
        left: u64,
        packets: u32,
    },
}

/// Reads the output as it goes out.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pending: Vec<u8>,
    at: At,
    /// The requests that were accepted and whose answer has not begun.
    due: VecDeque<RequestKind>,
    pub(crate) cancelled: usize,
    error: bool,
}

fn whole<T>(read: jtp_core::wire::DecodeResult<T>) -> Option<(T, usize)> {
    match read.expect("the server sends good frames") {
        Decoded::Complete { value, used } => Some((value, used)),
        Decoded::Incomplete { .. } => None,
    }
}

impl Output {
    pub(crate) fn accepted(&mut self, head: RequestHead) {
        self.due.push_back(head.kind);
    }

    pub(crate) fn takes(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        while let Some(used) = self.frame() {
            self.pending.drain(..used);
        }
    }

    /// The connection has ended in order: nothing is half there.
    pub(crate) fn check_whole(&self, server: &dyn std::fmt::Debug) {
        assert!(
            self.at == At::Boundary && self.pending.is_empty(),
            "an answer ended short: {self:?} {server:?}"
        );
    }

    fn frame(&mut self) -> Option<usize> {
        if self.pending.is_empty() {
            return None;
        }
        assert!(!self.error, "S11: something behind JTPE");
        match self.at {
            At::Boundary => self.header(),
            At::Entries(left) => {
                let (_, used) = whole(entry::decode(&self.pending))?;
                self.at = match left {
                    1 => At::Boundary,
                    _ => At::Entries(left - 1),
                };
                Some(used)
            }
            // S12
            At::Packets(_) if self.pending[0] == b'J' => {
                let (header, _) = whole(Header::decode(&self.pending))?;
                assert!(matches!(header, Header::Cancelled | Header::Error));
                self.at = At::Boundary;
                Some(0)
            }
            At::Packets(left) => {
                let (image, used) = whole(packet::decode_head(&self.pending))?;
                self.at = At::Body {
                    left: image.length.into(),
                    packets: left - 1,
                };
                self.body(used)
            }
            At::Body { .. } => self.body(0),
        }
    }

    fn body(&mut self, head: usize) -> Option<usize> {
        let At::Body { left, packets } = self.at else {
            unreachable!()
        };
        let here = left.min((self.pending.len() - head) as u64);
        self.at = match (left - here, packets) {
            (0, 0) => At::Boundary,
            (0, packets) => At::Packets(packets),
            (left, packets) => At::Body { left, packets },
        };
        Some(head + here as usize)
    }

    fn header(&mut self) -> Option<usize> {
        let (header, used) = whole(Header::decode(&self.pending))?;
        let rest = &self.pending[HEADER_LEN..];
        match header {
            Header::Cancelled => self.cancelled += 1,
            Header::Error => {
                let (_, more) = whole(ErrorFrame::decode_body(rest))?;
                self.error = true;
                return Some(used + more);
            }
            Header::Watch => {
                let (_, more) = whole(entry::decode(rest))?;
                assert_eq!(self.due.front(), Some(&RequestKind::Watch), "N3");
                return Some(used + more);
            }
            _ => {
                let (count, more) = whole(response::decode_count(header, rest))?;
                // A WATCH has no header, and may end without an event.
                while self.due.front() == Some(&RequestKind::Watch) {
                    self.due.pop_front();
                }
                let asked = self.due.pop_front().expect("an answer unasked");
                let fits = match header {
                    Header::List => asked == RequestKind::List,
                    Header::ListAndGet => asked == RequestKind::ListAndGet,
                    Header::Batch => matches!(asked, RequestKind::Batch { .. }),
                    _ => {
                        matches!(asked, RequestKind::GetById { count: most } if count <= most.into())
                    }
                };
                assert!(fits, "S1: {header:?} for {asked:?}");
                self.at = match (header, count) {
                    (_, 0) => At::Boundary,
                    (Header::List, count) => At::Entries(count),
                    (_, count) => At::Packets(count),
                };
                return Some(used + more);
            }
        }
        Some(used)
    }
}
