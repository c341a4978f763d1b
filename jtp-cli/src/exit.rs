//! Exit codes, and the errors that determine them.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// The exit status of a program. The codes are stable, because scripts depend on them.
///
/// Variants are ordered by precedence: if several apply, the greatest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Exit {
    /// 0: success.
    #[default]
    Success,
    /// 1: any other error.
    Other,
    /// 2: options that contradict each other, as far as `clap` does not report it.
    Usage,
    /// 3: some images failed, and all others are stored; or `--check` found differences, or `--mirror` deleted nothing.
    SomeFailed,
    /// 7: the server's rate limit was exceeded.
    RateLimited,
    /// 4: cannot connect.
    Connect,
    /// 5: TLS or certificate error.
    Tls,
    /// 6: protocol error by the server.
    Protocol,
    /// 8: local disk error.
    Disk,
    /// 130: interrupted by the user.
    Interrupted,
}

impl Exit {
    /// The numeric exit code. `clap` reports most usage errors (2).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Other => 1,
            Exit::Usage => 2,
            Exit::SomeFailed => 3,
            Exit::Connect => 4,
            Exit::Tls => 5,
            Exit::Protocol => 6,
            Exit::RateLimited => 7,
            Exit::Disk => 8,
            Exit::Interrupted => 130,
        }
    }

    /// The name of the code in the output of `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Exit::Success => "success",
            Exit::Other => "other",
            Exit::Usage => "usage",
            Exit::SomeFailed => "some_failed",
            Exit::Connect => "connect",
            Exit::Tls => "tls",
            Exit::Protocol => "protocol",
            Exit::RateLimited => "rate_limited",
            Exit::Disk => "disk",
            Exit::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// An error that ends a program or a part of its work: an exit code, and one line for the user.
///
/// The line names what failed, the cause and the remedy. Text from a peer in it is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The message. Empty if nothing needs to be printed.
    pub message: String,
}

impl Failure {
    /// Creates a failure.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
        }
    }

    /// Creates a failure with [`Exit::Other`].
    #[must_use]
    pub fn other(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Other, message)
    }

    /// The user interrupted the program. Nothing is printed.
    #[must_use]
    pub const fn interrupted() -> Failure {
        Failure {
            exit: Exit::Interrupted,
            message: String::new(),
        }
    }

    /// Replaces the exit code by that of an earlier outcome if that one takes precedence.
    #[must_use]
    pub fn after(self, earlier: Exit) -> Failure {
        Failure {
            exit: self.exit.max(earlier),
            ..self
        }
    }

    /// Returns the failure whose exit code takes precedence.
    #[must_use]
    pub fn or_worse(self, other: Failure) -> Failure {
        if other.exit > self.exit { other } else { self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

/// An error and its causes in one line, as in `cannot start a thread: out of memory`. A cause that the text before it
/// already ends with is left out: some crates repeat the cause in the error's own text.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
        source = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn each_part_of_an_error_chain_is_shown_once() {
        #[derive(Debug)]
        struct Layer(&'static str, Option<Box<dyn Error>>);

        impl fmt::Display for Layer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0)
            }
        }

        impl Error for Layer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.1.as_deref()
            }
        }

        let root = io::Error::other("the disk is gone");
        let repeated = Layer("cannot read: the disk is gone", Some(root.into()));
        let error = Layer("cannot open a.png", Some(Box::new(repeated)));
        assert_eq!(
            error_chain(&error),
            "cannot open a.png: cannot read: the disk is gone"
        );
        assert_eq!(error_chain(&Layer("alone", None)), "alone");
    }

    #[test]
    fn exit_codes_and_precedence_are_as_documented() {
        let by_precedence = [130, 8, 6, 5, 4, 7, 3, 1, 0];
        let mut all = [
            Exit::Success,
            Exit::Other,
            Exit::SomeFailed,
            Exit::Connect,
            Exit::Tls,
            Exit::Protocol,
            Exit::RateLimited,
            Exit::Disk,
            Exit::Interrupted,
        ];
        all.sort_by(|a, b| b.cmp(a));
        assert_eq!(all.map(Exit::code), by_precedence);
        let worst = Failure::new(Exit::SomeFailed, "a").or_worse(Failure::new(Exit::Disk, "b"));
        assert_eq!(worst.message, "b");
        assert_eq!(worst.or_worse(Failure::other("c")).exit, Exit::Disk);
        let after = |exit| Failure::new(exit, "d").after(Exit::SomeFailed).exit.code();
        assert_eq!([Exit::Other, Exit::Connect].map(after), [3, 4]);
    }
}
