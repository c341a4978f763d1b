//! The requests, output and close reason of a server connection do not depend on how the input is split.

use crate::ByteReader;
use crate::serve::serve;
use crate::server_bytes::reference;

pub fn run(data: &[u8]) {
    let mut reader = ByteReader(data);
    let first = reader.byte();
    let (watch, late) = (first % 8 != 0, first / 8);
    let cuts = reader.take(8);
    let mut steps = ByteReader(reader.take(8));
    let input = reader.0;
    let pauses = reference(watch, late, input).pauses;
    let whole = serve(
        watch,
        input,
        &pauses,
        &mut || usize::MAX,
        &mut ByteReader(&[]),
    );
    let bytewise = serve(watch, input, &pauses, &mut || 1, &mut ByteReader(&[]));
    assert_eq!(bytewise, whole);
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut)).cycle();
    let pieces = serve(
        watch,
        input,
        &pauses,
        &mut || cuts.next().unwrap_or(3),
        &mut steps,
    );
    assert_eq!(pieces, whole);
}
