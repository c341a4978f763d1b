//! Exit codes, and the errors that lead to them.

use std::fmt;
use std::process::ExitCode;

/// How a program ended. The codes are part of the programs' contract: scripts look at them.
///
/// The order is that of precedence: where several apply, the greatest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Exit {
    /// 0: all is well.
    #[default]
    Success,
    /// 1: an error that has no code of its own.
    Other,
    /// 3: some images failed, the rest are in place.
    SomeFailed,
    /// 7: the server says that it is asked too often.
    RateLimited,
    /// 4: no connection.
    Connect,
    /// 5: TLS, or a certificate.
    Tls,
    /// 6: the server broke the protocol.
    Protocol,
    /// 8: the local disk.
    Disk,
    /// 130: interrupted by the user.
    Interrupted,
}

impl Exit {
    /// The number that the system gets. Usage errors (2) are `clap`'s.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Other => 1,
            Exit::SomeFailed => 3,
            Exit::Connect => 4,
            Exit::Tls => 5,
            Exit::Protocol => 6,
            Exit::RateLimited => 7,
            Exit::Disk => 8,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a program, or a part of its work, came to an end: a code, and one line for the user.
///
/// The line says what failed, where, and what to do. It contains nothing that has not been escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// The line. Empty if all has been said.
    pub message: String,
}

impl Failure {
    /// A failure with its line.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
        }
    }

    /// [`Exit::Other`].
    #[must_use]
    pub fn other(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Other, message)
    }

    /// The user wants to stop: nothing needs to be said.
    #[must_use]
    pub const fn interrupted() -> Failure {
        Failure {
            exit: Exit::Interrupted,
            message: String::new(),
        }
    }

    /// The same, with the code of what happened before it if that comes first.
    #[must_use]
    pub fn after(self, before: Exit) -> Failure {
        Failure {
            exit: self.exit.max(before),
            ..self
        }
    }

    /// The one of the two that the program is to end with.
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

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_gives_codes_and_their_precedence() {
        let first_to_last = [130, 8, 6, 5, 4, 7, 3, 1, 0];
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
        assert_eq!(all.map(Exit::code), first_to_last);
        let worst = Failure::new(Exit::SomeFailed, "a").or_worse(Failure::new(Exit::Disk, "b"));
        assert_eq!(worst.message, "b");
        assert_eq!(worst.or_worse(Failure::other("c")).exit, Exit::Disk);
        let after = |exit| Failure::new(exit, "d").after(Exit::SomeFailed).exit.code();
        assert_eq!([Exit::Other, Exit::Connect].map(after), [3, 4]);
    }
}
