//! The core's work in instructions. `benches/instructions` runs this under callgrind, which counts what
//! [`measured`] does; by itself it does the work and says nothing of worth.

mod work;

/// Enough to see how the work grows, few enough for an emulated processor.
const IMAGES: u32 = 10_000;

#[inline(never)]
fn measured(work: &mut work::Work) -> usize {
    std::hint::black_box(work())
}

fn main() {
    let name = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    for (of, work) in work::ALL {
        match &name {
            None => println!("{of}"),
            Some(name) if name == of => {
                let mut work = work(IMAGES);
                work();
                measured(&mut work);
            }
            Some(_) => {}
        }
    }
}
