//! How much follows a CANCEL. Its other rules are in the behaviour suite.

use crate::support::bytes::*;
use crate::support::files::generated;
use crate::support::serve::TestServer;

#[test]
fn c6_few_packets_follow_a_cancel() {
    // With small socket buffers few packets follow a CANCEL.
    let served = TestServer::folder(generated(40, 256 * 1024));
    let expected = served.images();
    let mut peer = served.peer();
    peer.send([LIST_AND_GET, KEEP]);
    peer.expect(head(b"JTPG", 40));
    peer.send_and_be_read(CANCEL);
    let mut packets = 0;
    loop {
        let first = peer.read(1)[0];
        if first == b'J' {
            peer.expect(b"TPC");
            break;
        }
        assert_eq!(peer.packet_after(first).id, expected[packets].id);
        packets += 1;
    }
    assert!(packets <= 8, "{packets} packets of 40 followed the CANCEL");
}
