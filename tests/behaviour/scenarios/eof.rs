//! The connection ends after each byte of a short exchange, in each direction.

use crate::suite::adapters::Adapter;
use crate::suite::reference::{self, Mode};
use crate::suite::run;
use crate::suite::script::{Cut, Script, png};

crate::suite::each_pair_by! { super::each_byte: after_every_byte }
crate::suite::each_pair_by! { super::each_byte_of_tls: inside_tls }

fn after_every_byte() -> Script {
    Script::of([png("a.png", 5)]).list().get(["a.png"]).list()
}

pub(super) fn each_byte(name: &str, script: &Script, server: Adapter, client: Adapter) {
    let full = reference::run(script, Mode::Stream);
    assert!((15..100).contains(&full.up) && (50..200).contains(&full.down));
    let up = (0..=full.up).map(|at| Cut {
        up: Some(at),
        down: None,
    });
    let down = (1..=full.down).map(|at| Cut {
        up: None,
        down: Some(at),
    });
    for cut in up.chain(down) {
        let script = script.clone().setup(|setup| setup.cut = cut);
        let expected = reference::run(&script, Mode::Stream).log;
        // Whether a client sees the end between two responses before it sends the next request is a race.
        let first = expected.client.iter().find(|line| line.contains("error"));
        if cut.down.is_some() && first.is_some_and(|line| line.contains("misuse")) {
            continue;
        }
        run::check_cut(name, &script, server, client, &expected);
    }
}

fn inside_tls() -> Script {
    Script::of([png("a.png", 5)]).get(["a.png"])
}

/// Ends the stream after each byte of the handshake and the records; the nine pairs share the positions. A stream
/// that ends inside a record must look like one whose plaintext ends at some byte.
pub(super) fn each_byte_of_tls(name: &str, script: &Script, server: Adapter, client: Adapter) {
    const PAIRS: usize = 9;
    let number = |adapter: Adapter| match adapter.name {
        "tokio" => 0,
        "async_std" => 1,
        _ => 2,
    };
    let full = reference::run(script, Mode::Network);
    for up in [true, false] {
        let length = if up { full.up } else { full.down };
        let cut = |n| {
            let cut = Cut {
                up: up.then_some(n),
                down: (!up).then_some(n),
            };
            script.clone().setup(|setup| setup.cut = cut)
        };
        let possible: Vec<_> = (0..=length)
            .map(|n| reference::run(&cut(n), Mode::Network).log)
            .collect();
        let mut cut_responses = 0;
        for n in (3 * number(server) + number(client)..).step_by(PAIRS) {
            assert!(n < 20_000, "{name}: does not end");
            let log = run::run_cut_tls(name, &cut(n.try_into().unwrap()), server, client);
            if log == full.log {
                break;
            }
            // Before the handshake is complete there is only an error.
            let (has_request, failed) = (log.has(": request"), log.has("  error: "));
            assert!(
                failed && (!has_request || possible.contains(&log)),
                "{n}: {log:#?}"
            );
            cut_responses += usize::from(has_request);
        }
        assert!(cut_responses > 0 || up, "{name}: no cut inside a response");
    }
}
