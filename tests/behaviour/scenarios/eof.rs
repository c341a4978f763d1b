//! The connection ends after every byte of a short exchange, in each direction.

use crate::suite::adapters::Adapter;
use crate::suite::reference::{self, Mode};
use crate::suite::run;
use crate::suite::script::{Cut, Script, png};

crate::suite::each_pair_by! { super::each_byte: after_every_byte }

fn after_every_byte() -> Script {
    Script::of([png("a.png", 5)]).list().get(["a.png"]).list()
}

pub(super) fn each_byte(name: &str, script: &Script, server: Adapter, client: Adapter) {
    let whole = reference::tell(script, Mode::Over);
    assert!((15..100).contains(&whole.up) && (50..200).contains(&whole.down));
    let up = (0..=whole.up).map(|at| Cut {
        up: Some(at),
        down: None,
    });
    let down = (1..=whole.down).map(|at| Cut {
        up: None,
        down: Some(at),
    });
    for cut in up.chain(down) {
        let script = script.clone().setup(|setup| setup.cut = cut);
        let expected = reference::tell(&script, Mode::Over).log;
        // Whether a client sees the end between two responses before it sends the next request is a race.
        let first = expected.client.iter().find(|line| line.contains("error"));
        if cut.down.is_some() && first.is_some_and(|line| line.contains("misuse")) {
            continue;
        }
        run::check_cut(name, &script, server, client, &expected);
    }
}
