//! Different images with one ID. xxHash64 takes each 8 bytes in an invertible step, so for any first part there is a
//! second part that leads to any given state. Callers check that the IDs are equal.

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

fn inverse(n: u64) -> u64 {
    (0..6).fold(n, |x, _| {
        x.wrapping_mul(2u64.wrapping_sub(n.wrapping_mul(x)))
    })
}

/// Two images of 16 bytes with one ID.
#[must_use]
pub fn collision() -> (Vec<u8>, Vec<u8>) {
    let round = |lane: u64| lane.wrapping_mul(P2).rotate_left(31).wrapping_mul(P1);
    let unround = |r: u64| {
        r.wrapping_mul(inverse(P1))
            .rotate_right(31)
            .wrapping_mul(inverse(P2))
    };
    let after = |lane: u64| {
        (P5.wrapping_add(16) ^ round(lane))
            .rotate_left(27)
            .wrapping_mul(P1)
            .wrapping_add(P4)
    };
    let (a1, a2, b1) = (1u64, 2u64, 3u64);
    let b2 = unround(after(a1) ^ after(b1) ^ round(a2));
    let join = |x: u64, y: u64| [x.to_le_bytes(), y.to_le_bytes()].concat();
    (join(a1, a2), join(b1, b2))
}

/// Two images with one ID that end with `rest`: a difference in the second 32 bytes cancels the effect of one in the
/// first 32 on the first of the hash's four lanes.
#[must_use]
pub fn long_collision(rest: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let after = |lane: u64| {
        let sum = P1.wrapping_add(P2).wrapping_add(lane.wrapping_mul(P2));
        sum.rotate_left(31).wrapping_mul(P1)
    };
    let (a1, a2, b1) = (1u64, 2u64, 3u64);
    let b2 = a2.wrapping_add(after(a1).wrapping_sub(after(b1)).wrapping_mul(inverse(P2)));
    let join = |x: u64, y: u64| {
        let stripes = [x, 0, 0, 0, y, 0, 0, 0].map(u64::to_le_bytes);
        [&stripes.concat(), rest].concat()
    };
    (join(a1, a2), join(b1, b2))
}
