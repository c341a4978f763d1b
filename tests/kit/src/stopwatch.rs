use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Measures how long something takes, without the time in which a busy machine did not run this process.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    begun: Instant,
    overslept: Duration,
}

impl Stopwatch {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Stopwatch {
        Stopwatch {
            begun: Instant::now(),
            overslept: overslept(),
        }
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let idle = overslept() - self.overslept;
        self.begun.elapsed().saturating_sub(idle)
    }
}

/// The time for which threads of this process were ready to run and did not, since the first call: what a thread that
/// sleeps for 5 ms at a time oversleeps by more than 2 ms.
fn overslept() -> Duration {
    static MICROSECONDS: AtomicU64 = AtomicU64::new(0);
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| {
        thread::spawn(|| {
            loop {
                let begun = Instant::now();
                thread::sleep(Duration::from_millis(5));
                let over = begun.elapsed().saturating_sub(Duration::from_millis(7));
                let over = u64::try_from(over.as_micros()).unwrap();
                MICROSECONDS.fetch_add(over, Ordering::Relaxed);
            }
        });
    });
    Duration::from_micros(MICROSECONDS.load(Ordering::Relaxed))
}
