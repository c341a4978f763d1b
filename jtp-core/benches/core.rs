//! The core's work in time: `cargo bench -p jtp-core`. Rates are of bytes on the wire; `copy` is how fast they
//! could be.

mod work;

use divan::Bencher;
use divan::counter::BytesCount;

/// The largest catalog that is promised to be cheap.
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
    for (of, work) in work::ALL {
        if of == name {
            run(bencher, work(IMAGES));
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
