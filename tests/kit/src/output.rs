//! The arguments of a program, and how it ended.

use std::process::{Command, ExitStatus};

/// Arguments: words in one string, or a list, in which an argument may have spaces.
pub trait Args {
    /// Each argument.
    fn list(&self) -> Vec<&str>;
}

impl Args for str {
    fn list(&self) -> Vec<&str> {
        self.split_whitespace().collect()
    }
}

impl Args for String {
    fn list(&self) -> Vec<&str> {
        self.as_str().list()
    }
}

impl Args for [&str] {
    fn list(&self) -> Vec<&str> {
        self.to_vec()
    }
}

impl<const N: usize> Args for [&str; N] {
    fn list(&self) -> Vec<&str> {
        self.to_vec()
    }
}

impl Args for Vec<&str> {
    fn list(&self) -> Vec<&str> {
        self.clone()
    }
}

impl<A: Args + ?Sized> Args for &A {
    fn list(&self) -> Vec<&str> {
        (**self).list()
    }
}

/// How a program ended, and what it printed.
#[derive(Debug, Default)]
pub struct Output {
    /// The program with its arguments, for the message of a test that fails.
    pub command: String,
    /// The exit code, or the negative number of the signal that ended it.
    pub code: Option<i32>,
    /// What it printed to stdout.
    pub out: String,
    /// What it printed to stderr.
    pub err: String,
}

pub(crate) fn code(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal = None::<i32>;
    status.code().or(signal.map(|signal| -signal))
}

/// The program with its arguments.
pub(crate) fn words(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

impl Output {
    /// The output of a process that has ended.
    ///
    /// # Panics
    ///
    /// If it is no UTF-8.
    #[must_use]
    pub fn new(output: std::process::Output) -> Output {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (out, err) = (text(output.stdout), text(output.stderr));
        Output {
            command: String::new(),
            code: code(output.status),
            out,
            err,
        }
    }

    /// Runs a program to its end.
    ///
    /// # Panics
    ///
    /// If it cannot be run.
    #[must_use]
    pub fn of(command: &mut Command) -> Output {
        let output = command.output().expect("the program can be run");
        Output {
            command: words(command),
            ..Output::new(output)
        }
    }
}

#[allow(clippy::must_use_candidate)] // The assertions are called for their effect.
impl Output {
    /// Asserts the exit code.
    #[track_caller]
    pub fn assert_exit(&self, code: i32) -> &Output {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Asserts the whole of stdout.
    #[track_caller]
    pub fn assert_out(&self, text: &str) -> &Output {
        assert_eq!(self.out, text, "{self:?}");
        self
    }

    /// Asserts the whole of stderr.
    #[track_caller]
    pub fn assert_err(&self, text: &str) -> &Output {
        assert_eq!(self.err, text, "{self:?}");
        self
    }

    /// Asserts that stdout contains a text.
    #[track_caller]
    pub fn assert_in_out(&self, text: &str) -> &Output {
        assert!(self.out.contains(text), "{text:?} is not in {self:?}");
        self
    }

    /// Asserts that stderr contains a text.
    #[track_caller]
    pub fn assert_in_err(&self, text: &str) -> &Output {
        assert!(self.err.contains(text), "{text:?} is not in {self:?}");
        self
    }

    /// Asserts that stderr does not contain a text.
    #[track_caller]
    pub fn assert_not_in_err(&self, text: &str) -> &Output {
        assert!(!self.err.contains(text), "{text:?} is in {self:?}");
        self
    }

    /// Asserts success, and no output on stderr.
    #[track_caller]
    pub fn assert_no_error(&self) -> &Output {
        self.assert_exit(0).assert_err("")
    }

    /// Asserts success, this summary, and no output on stderr.
    #[track_caller]
    pub fn assert_success(&self, summary: &str) -> &Output {
        self.assert_no_error().assert_summary(summary)
    }

    /// Asserts the last line on stdout, without the time.
    #[track_caller]
    pub fn assert_summary(&self, summary: &str) -> &Output {
        let line = self.out.lines().last().unwrap_or_default();
        let (fetched, rest) = line.split_once(" in ").unwrap_or((line, ""));
        let line = format!("{fetched}; {}", rest.split_once("; ").unwrap_or_default().1);
        assert_eq!(line, summary, "{self:?}");
        self
    }

    /// Asserts the numbers of fetched and already present images on the last line.
    #[track_caller]
    pub fn assert_fetched(&self, fetched: usize, present: usize) -> &Output {
        self.assert_exit(0);
        let last = self.out.lines().last().unwrap_or_default();
        let images = if fetched == 1 { "image" } else { "images" };
        let counted = last.starts_with(&format!("fetched {fetched} {images} ("))
            && last.contains(&format!("; {present} already there; 0 failed"));
        assert!(counted, "{self:?}");
        self
    }

    /// Asserts this exit code, and one error line on stderr that contains all of `words`.
    #[track_caller]
    pub fn assert_failure(&self, code: i32, words: &[&str]) -> &Output {
        self.assert_exit(code).assert_not_in_err("panicked");
        let errors: Vec<_> = self
            .err
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        for word in words {
            assert!(errors[0].contains(word), "{word} is not in {self:?}");
        }
        self
    }
}
