// Appended to the crate under test: which of its mutants is active.
mod jtp_mutant {
    extern crate std;
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

    const UNKNOWN: u32 = u32::MAX;
    const NONE: u32 = u32::MAX - 1;
    const RECORD: u32 = u32::MAX - 2;

    static ACTIVE: AtomicU32 = AtomicU32::new(UNKNOWN);
    static LOG: OnceLock<std::fs::File> = OnceLock::new();
    static SEEN: [AtomicBool; 1 << 13] = [const { AtomicBool::new(false) }; 1 << 13];

    /// Whether the mutant `n` is active: `JTP_MUTANT` names it. Without one, the numbers of those that are asked for are
    /// written to the file that `JTP_MUTANT_LOG` names.
    #[inline]
    pub(crate) fn on(n: u32) -> bool {
        match ACTIVE.load(Relaxed) {
            UNKNOWN => {
                let number = std::env::var("JTP_MUTANT").ok().and_then(|text| text.parse().ok());
                if let Some(path) = std::env::var_os("JTP_MUTANT_LOG") {
                    let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
                    let _ = log.map(|log| LOG.set(log));
                }
                let otherwise = if LOG.get().is_some() { RECORD } else { NONE };
                ACTIVE.store(number.unwrap_or(otherwise), Relaxed);
                on(n)
            }
            RECORD => {
                if !SEEN[n as usize].swap(true, Relaxed) {
                    let _ = LOG.get().map(|mut log| log.write_all(&n.to_ne_bytes()));
                }
                false
            }
            active => active == n,
        }
    }
}
