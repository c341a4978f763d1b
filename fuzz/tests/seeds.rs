//! Runs each target on its committed seeds, without a fuzzer.

use std::fs;
use std::path::Path;

#[test]
fn every_seed_passes() {
    for (name, run) in jtp_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(name);
        let mut count = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "no seeds for {name}");
    }
}

#[test]
fn each_type_of_request_has_a_seed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/server_bytes");
    for kind in jtp_core::wire::request::RequestKind::ALL {
        let seed = folder.join(format!("type_{}", kind.code()));
        let name = kind.name();
        assert!(
            seed.exists(),
            "{name}: run `cargo run --example seeds` in fuzz/"
        );
    }
}
