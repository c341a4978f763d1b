//! The adapters have one public face: who changes the runtime changes the crate's name and the `.await`s. Of
//! jtp-tokio and jtp-async-std the driver's types see to it; the rest is compared here, in the sources.

use std::collections::BTreeMap;

macro_rules! source {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", $path))
    };
}

const TOKIO: &str = source!("jtp-tokio/src/lib.rs");
const ASYNC_STD: &str = source!("jtp-async-std/src/lib.rs");
const BLOCKING: &str = source!("jtp-blocking/src/lib.rs");

/// What a crate's front page says is public, but for the runtime's own name.
fn names(lib: &str) -> Vec<String> {
    let public = lib.lines().filter(|line| line.starts_with("pub "));
    let own = ["runtime::Tokio", "runtime::Global", "runtime::Threads"];
    let same = public.filter(|line| !own.iter().any(|name| line.contains(name)));
    same.map(str::to_owned).collect()
}

#[test]
fn the_same_names() {
    let tokio = names(TOKIO);
    assert!(tokio.len() >= 6, "{tokio:?}");
    assert_eq!(tokio, names(ASYNC_STD));
    let mut blocking = names(BLOCKING);
    blocking.retain(|line| line != "pub use halves::Close;");
    let blocking: Vec<_> = blocking
        .iter()
        .map(|line| line.replace(", Shutdown", ""))
        .collect();
    assert_eq!(tokio, blocking);
}

#[test]
fn the_same_types_on_tokio_and_async_std() {
    let of = |source: &str, runtime| source.replace(runtime, "RUNTIME");
    assert_eq!(
        of(source!("jtp-tokio/src/client.rs"), "Tokio"),
        of(source!("jtp-async-std/src/client.rs"), "Global")
    );
    assert_eq!(
        of(source!("jtp-tokio/src/server.rs"), "Tokio"),
        of(source!("jtp-async-std/src/server.rs"), "Global")
    );
}

/// The sections that all have, in the same order; and the features.
#[test]
fn the_same_order_of_the_docs_and_the_same_features() {
    let common = [
        "TLS",
        "Streams of one's own",
        "Limits and clocks",
        "Features",
    ];
    for lib in [TOKIO, ASYNC_STD, BLOCKING] {
        let sections = lib.lines().filter_map(|line| line.strip_prefix("//! # "));
        let shared: Vec<_> = sections.filter(|name| common.contains(name)).collect();
        assert_eq!(shared, common);
    }
    let features = |manifest: &'static str| {
        let table = manifest
            .split("[features]")
            .nth(1)
            .unwrap()
            .split("\n[")
            .next();
        let lines = table
            .unwrap()
            .lines()
            .filter_map(|line| line.split_once(" = "));
        let names = lines.map(|(name, _)| name);
        names
            .filter(|name| !["async-std", "smol"].contains(name))
            .collect::<Vec<_>>()
    };
    let tokio = features(source!("jtp-tokio/Cargo.toml"));
    assert_eq!(tokio, ["default", "tls", "aws-lc-rs", "ring", "zstd"]);
    assert_eq!(tokio, features(source!("jtp-async-std/Cargo.toml")));
    assert_eq!(tokio, features(source!("jtp-blocking/Cargo.toml")));
}

/// The public methods of each type, as they are declared but for what a runtime adds.
fn methods(sources: &[&str]) -> BTreeMap<String, String> {
    let types = ["Client", "Images", "Incoming", "Watch", "Server"];
    let mut found = BTreeMap::new();
    for source in sources {
        let mut of = None;
        let mut lines = source.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("impl") {
                let name = line.trim_end_matches(" {").rsplit("> ").next().unwrap();
                let name = name.strip_prefix("impl ").unwrap_or(name).split('<').next();
                let inherent = !line.contains(" for ");
                of = name.filter(|name| inherent && types.contains(name));
            } else if let (Some(of), true) =
                (of, line.starts_with("    pub ") && line.contains("fn "))
            {
                let mut whole = line.trim().to_owned();
                while !whole.ends_with('{') {
                    whole += lines.next().unwrap().trim();
                }
                let name = whole.split("fn ").nth(1).unwrap();
                let name = name.split(['(', '<']).next().unwrap();
                let mut same = whole.replace("async ", "").replace("mut self", "self");
                for runtime in ["<R, ", ", R>", "<R>"] {
                    let left = match runtime {
                        "<R, " => "<",
                        ", R>" => ">",
                        _ => "",
                    };
                    same = same.replace(runtime, left);
                }
                found.insert(format!("{of}::{name}"), same.replace(",)", ")"));
            }
        }
    }
    found
}

#[test]
fn the_same_methods_without_await() {
    let mut driver = methods(&[
        source!("jtp-driver/src/client/mod.rs"),
        source!("jtp-driver/src/client/images.rs"),
        source!("jtp-driver/src/client/watch.rs"),
        source!("jtp-driver/src/server/mod.rs"),
    ]);
    let mut blocking = methods(&[
        source!("jtp-blocking/src/client.rs"),
        source!("jtp-blocking/src/server.rs"),
    ]);
    assert!(driver.len() >= 20, "{driver:#?}");
    // The crate's docs say why.
    assert!(blocking.remove("Watch::next_timeout").is_some());
    for other in ["Client::from_stream", "Server::serve", "Server::serve_stream"] {
        let name = other.split("::").nth(1).unwrap();
        assert!(
            driver.remove(other).is_some() && blocking.remove(other).is_some(),
            "{other}"
        );
        assert!(BLOCKING.contains(&format!("{name}(")), "{other}");
    }
    assert_eq!(driver, blocking);
}
