//! Runs tests, each in a process of its own, with or without a mutant.

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::build::Executable;

/// A mutant must not take all memory of the machine.
const MAX_MEMORY_KIB: u64 = 6 << 20;
/// A test that took this long without a mutant may hang.
const MAX_TIME: Duration = Duration::from_secs(300);

/// Whether a test that takes less fails does not depend on what else the machine does.
const CERTAIN_TIME: Duration = Duration::from_millis(200);

struct Test {
    executable: usize,
    name: String,
    usual: Duration,
    /// The mutants whose code it runs.
    reaches: HashSet<usize>,
}

pub struct Tests {
    executables: Vec<Executable>,
    /// Where the tests find the programs, which otherwise they build.
    programs: Option<PathBuf>,
    /// The fastest first.
    tests: Vec<Test>,
}

enum Ended {
    Passed,
    Failed,
    TimedOut,
}

impl Tests {
    /// Runs each test whose name is `wanted` once without a mutant, `jobs` at a time.
    pub fn measure(
        executables: Vec<Executable>,
        (target, programs): (&Path, Option<PathBuf>),
        jobs: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Self {
        let mut names = Vec::new();
        for (number, Executable { path, folder, name }) in executables.iter().enumerate() {
            let list = crate::output_of(Command::new(path).args(["--list", "--format", "terse"]).current_dir(folder));
            let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
            let tests = tests.filter(|test| wanted(&format!("{name}::{test}")));
            names.extend(tests.map(|test| (number, test.to_owned())));
        }
        let mut this = Self { executables, programs, tests: Vec::new() };
        let measured = crate::in_parallel(jobs, names.len(), |n| this.measured(names[n].0, &names[n].1, target));
        this.tests = measured.into_iter().flatten().collect();
        this.tests.sort_by_key(|test| test.usual);
        let total: Duration = this.tests.iter().map(|test| test.usual).sum();
        println!("{} tests, {} s", this.tests.len(), total.as_secs());
        for test in this.tests.iter().rev().take(10) {
            println!("  {:6} ms  {}", test.usual.as_millis(), test.name);
        }
        this
    }

    /// A test, how long it takes, and what it reaches; nothing if it fails.
    fn measured(&self, executable: usize, name: &str, target: &Path) -> Option<Test> {
        let log = target.join(format!("mutants/reached-{:?}", std::thread::current().id()));
        // Some tests run programs as other users.
        let _ = std::fs::remove_file(&log);
        let file = std::fs::File::create(&log).expect("the target folder can be written");
        file.set_permissions(Permissions::from_mode(0o666)).expect("the log is ours");
        let start = Instant::now();
        let ended = self.run(executable, name, ("JTP_MUTANT_LOG", &log.to_string_lossy()), MAX_TIME);
        let usual = start.elapsed();
        if !matches!(ended, Ended::Passed) {
            println!("left out, since it fails without a mutant: {name}");
            return None;
        }
        let log = std::fs::read(&log).unwrap_or_default();
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_ne_bytes) as usize;
        let reaches = log.chunks(4).map(number).collect();
        Some(Test { executable, name: name.to_owned(), usual, reaches })
    }

    /// Runs the tests that reach a mutant and whose names are `wanted`, until one fails.
    pub fn outcome(&self, mutant: usize, wanted: impl Fn(&str) -> bool) -> Outcome {
        let mut outcome = Outcome::Unreached;
        for test in self.tests.iter().filter(|test| test.reaches.contains(&mutant)) {
            let name = format!("{}::{}", self.executables[test.executable].name, test.name);
            if !wanted(&name) {
                continue;
            }
            let limit = test.usual * 5 + Duration::from_secs(2);
            let run = |mutant: &str| self.run(test.executable, &test.name, ("JTP_MUTANT", mutant), limit);
            let ended = run(&mutant.to_string());
            // Because the machine is busy, a test may take too long, and a slow one fail, without the mutant, too.
            let is_certain = || matches!(run(""), Ended::Passed);
            match ended {
                Ended::Failed if test.usual < CERTAIN_TIME || is_certain() => return Outcome::Caught(name),
                Ended::TimedOut if is_certain() => return Outcome::Timeout(name),
                _ => outcome = Outcome::Survived,
            }
        }
        outcome
    }

    fn run(&self, executable: usize, name: &str, variable: (&str, &str), limit: Duration) -> Ended {
        let Executable { path, folder, .. } = &self.executables[executable];
        let thread = std::thread::current().id();
        let temporary = std::env::temp_dir().join(format!("jtp-mutants-{}-{thread:?}", std::process::id()));
        std::fs::create_dir_all(&temporary).expect("there is a folder for temporary files");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {MAX_MEMORY_KIB}; exec \"$0\" \"$@\"")]).arg(path);
        command.args(["--exact", name, "--test-threads", "1"]).current_dir(folder);
        command.env(variable.0, variable.1).env("TMPDIR", &temporary).env("RUST_BACKTRACE", "0");
        // The same cases each time; a failing one is neither made smaller nor kept for the next mutant.
        command.env("PROPTEST_RNG_SEED", "1").env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true");
        command.env("PROPTEST_MAX_SHRINK_ITERS", "0");
        command.envs(self.programs.iter().map(|programs| ("JTP_PROGRAMS", programs)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().expect("a test can be run");
        let start = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break if status.success() { Ended::Passed } else { Ended::Failed };
            }
            if start.elapsed() > limit {
                break Ended::TimedOut;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        // Also the processes that it has started.
        let _ = Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]).stderr(Stdio::null()).status();
        let _ = child.wait();
        let _ = std::fs::remove_dir_all(&temporary);
        ended
    }
}
