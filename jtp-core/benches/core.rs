//! Time measurements: `cargo bench -p jtp-core`. Rates count bytes on the wire; `copy_a_list` is the upper bound.

mod work;

use divan::Bencher;
use divan::counter::BytesCount;

/// The size of the large catalogs.
const IMAGES: u32 = 1_000_000;

fn main() {
    divan::main();
}

fn run(bencher: Bencher<'_, '_>, mut work: work::Work) {
    let bytes = work();
    bencher.counter(BytesCount::new(bytes)).bench_local(work);
}

#[divan::bench(args = work::ALL.map(|(name, _)| name), sample_count = 20)]
fn core(bencher: Bencher<'_, '_>, name: &str) {
    for (work_name, prepare) in work::ALL {
        if work_name == name {
            run(bencher, prepare(IMAGES));
            return;
        }
    }
}

#[divan::bench(sample_count = 20)]
fn receive_8_mib_compressed(bencher: Bencher<'_, '_>) {
    run(bencher, work::receive_body(true));
}

#[divan::bench(sample_count = 20)]
fn copy_a_list(bencher: Bencher<'_, '_>) {
    run(bencher, work::copy(IMAGES));
}
