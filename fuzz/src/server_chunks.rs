//! A server's connection answers the same bytes the same way, whole and in pieces.

use crate::Choices;
use crate::serve::serve;
use crate::server_bytes::reference;

pub fn run(data: &[u8]) {
    let mut choices = Choices(data);
    let first = choices.byte();
    let (watch, late) = (first % 8 != 0, first / 8);
    let cuts = choices.take(8);
    let mut steps = Choices(choices.take(8));
    let input = choices.0;
    let pauses = reference(watch, late, input).pauses;
    let whole = serve(watch, input, &pauses, &mut || usize::MAX, &mut Choices(&[]));
    let bytewise = serve(watch, input, &pauses, &mut || 1, &mut Choices(&[]));
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
