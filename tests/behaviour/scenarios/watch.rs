//! WATCH: what is told, what is not, and how it ends.

use crate::suite::script::Watching::{Cancel, Do, Next};
use crate::suite::script::{Deed, Script, png};

crate::suite::each_pair! {
    news, what_is_no_news, several_at_once, the_list_and_the_watch_leave_no_gap,
    told_while_cancel_is_on_its_way, ended_by_the_client, ended_by_the_shutdown, ended_by_its_lag,
    switched_off, again_and_again,
}

fn album() -> Script {
    Script::of([png("a.png", 30)]).later([
        png("b.png", 40),
        png("c.png", 0),
        png("d.png", 60),
        png("e.png", 70),
        png("f.png", 80),
    ])
}

/// N1
fn news() -> Script {
    album()
        .list_and_watch([
            Do(Deed::Add("c.png")),
            Next(1),
            Do(Deed::Add("b.png")),
            Next(1),
            Cancel,
        ])
        .must("new:   ef46db3751d8e999 c.png")
        .must("(b.png)")
}

/// N1: an ID that was there is no news, whatever its name; one that comes again is.
fn what_is_no_news() -> Script {
    album()
        .watch([
            Do(Deed::Rename("a.png", "z.png")),
            Do(Deed::Remove("a.png")),
            Do(Deed::Add("b.png")),
            Do(Deed::Remove("b.png")),
            Next(1),
            Do(Deed::Add("a.png")),
            Do(Deed::Add("b.png")),
            Next(2),
            Cancel,
        ])
        .must("(a.png)")
}

/// N2: none is skipped.
fn several_at_once() -> Script {
    album()
        .watch([
            Do(Deed::AddAll(&["f.png", "b.png", "d.png"])),
            Do(Deed::AddAll(&["e.png", "c.png"])),
            Next(5),
            Cancel,
        ])
        .must("(e.png)")
}

/// N5: what comes after the LIST's snapshot is told, though the WATCH is read later.
fn the_list_and_the_watch_leave_no_gap() -> Script {
    album()
        .setup(|setup| {
            setup.unshaped = true;
            setup.on_request.push(("WATCH", Deed::Add("b.png")));
        })
        .watching(
            true,
            false,
            [Next(1), Do(Deed::Add("c.png")), Next(1), Cancel],
        )
        .must("1 entries")
        .must("(b.png)")
}

/// C7: news and CANCEL at once. The server has read the CANCEL before anything comes.
fn told_while_cancel_is_on_its_way() -> Script {
    album()
        .pipelining()
        .watch([Do(Deed::Add("b.png")), Next(1), Do(Deed::Hold), Cancel])
        .list()
        .must("2 entries")
}

/// N6
fn ended_by_the_client() -> Script {
    album()
        .list_and_watch([Do(Deed::Add("b.png")), Next(1)])
        .close()
        .must("1: end: the peer closed the connection")
}

/// S16
fn ended_by_the_shutdown() -> Script {
    album()
        .watch([
            Do(Deed::AddAll(&["b.png", "c.png"])),
            Next(2),
            Do(Deed::Shutdown),
            Next(1),
        ])
        .must("error: protocol: the connection ended before the response was complete")
        .must("1: end: the server is shutting down")
}

/// N2: it begins further behind than allowed.
fn ended_by_its_lag() -> Script {
    album()
        .setup(|setup| {
            setup.unshaped = true;
            setup.server = setup.server.with_max_watch_lag(2);
            let three = Deed::AddAll(&["b.png", "c.png", "d.png"]);
            setup.on_request.push(("WATCH", three));
        })
        .watching(true, false, [Next(1)])
        .must("error: protocol: the connection ended before the response was complete")
        .must("1: end: the watching client fell too far behind")
}

/// S10
fn switched_off() -> Script {
    album()
        .setup(|setup| setup.server = setup.server.with_watch(false))
        .watch([Next(1)])
        .must("error: protocol: the server reports UnsupportedFeature")
}

fn again_and_again() -> Script {
    album()
        .pipelining()
        .watch([Do(Deed::Add("b.png")), Next(1), Cancel])
        .list_and_watch([Do(Deed::Add("c.png")), Next(1), Cancel])
        .get(["b.png"])
        .watch([Do(Deed::Add("d.png")), Next(1), Cancel])
        .must("good: 40 bytes")
}
