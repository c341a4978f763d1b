//! Checks a server's output for any client: whole frames in the order of the requests, correct counts, and nothing
//! after an error.

use std::collections::VecDeque;

use jtp_core::client::Request;
use jtp_core::wire::request::{RequestHead, RequestKind};
use jtp_core::wire::response::{self, ErrorFrame, HEADER_LEN, Header};
use jtp_core::wire::{Decoded, entry, packet};

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Position {
    #[default]
    Boundary,
    Entries(u32),
    Packets(u32),
    Body {
        left: u64,
        packets: u32,
    },
}

/// Parses the output as it is sent.
#[derive(Debug, Default)]
pub(crate) struct OutputChecker {
    pending: Vec<u8>,
    position: Position,
    /// Accepted requests whose response has not begun.
    due: VecDeque<RequestKind>,
    pub(crate) cancelled: usize,
    error: bool,
}

fn whole<T>(read: jtp_core::wire::DecodeResult<T>) -> Option<(T, usize)> {
    match read.expect("valid frames") {
        Decoded::Complete { value, used } => Some((value, used)),
        Decoded::Incomplete { .. } => None,
    }
}

impl OutputChecker {
    pub(crate) fn accepted(&mut self, head: RequestHead) {
        self.due.push_back(head.kind);
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        while let Some(used) = self.frame() {
            self.pending.drain(..used);
        }
    }

    /// Checks, when the connection ended in order, that no frame was cut off.
    pub(crate) fn check_whole(&self, server: &dyn std::fmt::Debug) {
        assert!(
            self.position == Position::Boundary && self.pending.is_empty(),
            "a response was cut off: {self:?} {server:?}"
        );
    }

    fn frame(&mut self) -> Option<usize> {
        if self.pending.is_empty() {
            return None;
        }
        assert!(!self.error, "S11: output after JTPE");
        match self.position {
            Position::Boundary => self.header(),
            Position::Entries(left) => {
                let (_, used) = whole(entry::decode(&self.pending))?;
                self.position = match left {
                    1 => Position::Boundary,
                    _ => Position::Entries(left - 1),
                };
                Some(used)
            }
            // S12
            Position::Packets(_) if self.pending[0] == b'J' => {
                let (header, _) = whole(Header::decode(&self.pending))?;
                assert!(matches!(header, Header::Cancelled | Header::Error));
                self.position = Position::Boundary;
                Some(0)
            }
            Position::Packets(left) => {
                let (image, used) = whole(packet::decode_head(&self.pending))?;
                self.position = Position::Body {
                    left: image.length.into(),
                    packets: left - 1,
                };
                self.body(used)
            }
            Position::Body { .. } => self.body(0),
        }
    }

    fn body(&mut self, head: usize) -> Option<usize> {
        let Position::Body { left, packets } = self.position else {
            unreachable!()
        };
        let available = left.min((self.pending.len() - head) as u64);
        self.position = match (left - available, packets) {
            (0, 0) => Position::Boundary,
            (0, packets) => Position::Packets(packets),
            (left, packets) => Position::Body { left, packets },
        };
        Some(head + available as usize)
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
                let request = self.due.pop_front().expect("a response without a request");
                let answer = Request::of(request, Vec::new()).unwrap().kind().header();
                let fits = header == answer && (header != Header::Data || count <= request.ids());
                assert!(fits, "S1: {header:?} for {request:?}");
                self.position = match (header, count) {
                    (_, 0) => Position::Boundary,
                    (Header::List, count) => Position::Entries(count),
                    (_, count) => Position::Packets(count),
                };
                return Some(used + more);
            }
        }
        Some(used)
    }
}
