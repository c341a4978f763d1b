//! Instruction counts. `.ci/instructions` runs this program under callgrind and counts the instructions inside
//! [`measured`]. Without callgrind the program measures nothing.

#[path = "../../jtp-core/benches/work/mod.rs"]
mod work;

/// Large enough to show growth with the catalog, small enough for an emulated CPU.
const IMAGES: u32 = 10_000;

#[inline(never)]
fn measured(work: &mut work::Work) -> usize {
    std::hint::black_box(work())
}

fn main() {
    let name = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    for (work_name, prepare) in work::ALL {
        match &name {
            None => println!("{work_name}"),
            Some(name) if name == work_name => {
                let mut work = prepare(IMAGES);
                work();
                measured(&mut work);
            }
            Some(_) => {}
        }
    }
}
