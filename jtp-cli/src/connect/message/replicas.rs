//! Messages about several servers that failed.

use jtp_tokio::client::ReplicaError;

use super::{Message, first, message};
use crate::client_args::ClientArgs;
use crate::exit::{Exit, Failure};

/// The most servers that a message names.
const MAX_NAMED: usize = 4;

/// One line about all servers: what failed at each, as far as it is short, and the exit code that takes precedence. It has
/// a hint if one helps with all of them.
pub(super) fn replicas_message(errors: &[ReplicaError], args: &ClientArgs) -> Message {
    let messages: Vec<Message> = errors.iter().map(|error| of_one(error, args)).collect();
    let exit = messages.iter().map(|message| message.exit).max();
    let named: Vec<&str> = messages
        .iter()
        .take(MAX_NAMED)
        .map(|message| &*message.what)
        .collect();
    let mut what = named.join("; ");
    if messages.len() > MAX_NAMED {
        what += &format!("; and {} more failed", messages.len() - MAX_NAMED);
    }
    let hint = messages.first().and_then(|first| first.hint.clone());
    let is_common = messages.iter().all(|message| message.hint == hint);
    Message {
        exit: exit.unwrap_or(Exit::Other),
        what,
        hint: hint.filter(|_| is_common),
    }
}

/// The line about a server that failed, in whose place the one at `address` is used. Failures that need somebody's
/// attention are warnings, also with `--quiet`, which hides the others.
#[must_use]
pub fn server_changed(error: &ReplicaError, args: &ClientArgs, address: &str) -> Option<String> {
    let Message { exit, what, .. } = of_one(error, args);
    let prefix = match exit {
        Exit::Connect | Exit::RateLimited if args.quiet => return None,
        Exit::Connect | Exit::RateLimited => "",
        _ => "warning: ",
    };
    Some(format!("{prefix}{what}; going on with {address}"))
}

/// The same for a program: the kind of the failure, and what failed.
#[must_use]
pub fn replica_failure(error: &ReplicaError, args: &ClientArgs) -> Failure {
    let Message { exit, what, .. } = of_one(error, args);
    Failure::new(exit, what)
}

/// The message about one of several servers.
fn of_one(error: &ReplicaError, args: &ClientArgs) -> Message {
    let at = args.servers.find(error.address());
    message(error.error(), args, at.unwrap_or(first(args)))
}
