//! The names of this machine and its user.

use rustls::pki_types::DnsName;

/// The machine's name, if it is a valid DNS name other than `localhost`.
pub(super) fn machine() -> Option<String> {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_str()
        .ok()?
        .to_ascii_lowercase();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").ok()?.to_ascii_lowercase();
    let name = DnsName::try_from(name).ok()?;
    let name = name.as_ref().trim_end_matches('.');
    (name != "localhost").then(|| name.to_owned())
}

/// What a person would call this client: `USER@MACHINE`, as far as both are known.
pub(super) fn client() -> String {
    let user = ["USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|variable| std::env::var(variable).ok())
        .filter(|user| is_plain(user));
    match (user, machine()) {
        (Some(user), Some(machine)) => format!("{user}@{machine}"),
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => "client".to_owned(),
    }
}

/// Whether the name is short and without white space, so that a line with it remains one line.
fn is_plain(name: &str) -> bool {
    let unusual = |c: char| c.is_control() || c.is_whitespace();
    !name.is_empty() && name.len() <= 100 && !name.contains(unusual)
}
