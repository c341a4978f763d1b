//! The servers on the command line of `client`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::address::Address;

const DEFAULT: &str = "127.0.0.1:8443";

/// A server, as the user named it.
///
/// ```
/// use jtp_cli::endpoint::Endpoint;
/// let endpoint: Endpoint = "jtps://pictures.example".parse().unwrap();
/// assert_eq!(endpoint.to_string(), "pictures.example:8443");
/// assert!(endpoint.is_tls);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port.
    pub address: Address,
    /// Whether it was named with `jtps://`.
    pub is_tls: bool,
    /// Whether it was named without a scheme and a port.
    is_host_alone: bool,
}

impl Endpoint {
    /// How a user asks for plain TCP to this server.
    #[must_use]
    pub fn plain_flag(&self) -> String {
        match self.is_tls {
            true => format!("jtp://{self}"),
            false => "--plain".to_owned(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest.strip_suffix('/').unwrap_or(rest)),
            None => (None, text),
        };
        let is_tls = match scheme.map(str::to_ascii_lowercase).as_deref() {
            None | Some("jtp") => false,
            Some("jtps") => true,
            Some(other) => {
                return Err(format!(
                    "unsupported scheme {other}://; use jtps:// (TLS) or jtp://"
                ));
            }
        };
        if let Some(at) = rest.find(['/', '?', '#']) {
            let host = &rest[..at];
            return Err(match scheme {
                Some(scheme) => {
                    format!("an address has no path and no query; use {scheme}://{host}")
                }
                None => {
                    "expected HOST:PORT without a path; a folder is passed with --out".to_owned()
                }
            });
        }
        let address: Address = rest.parse()?;
        Ok(Endpoint {
            is_host_alone: scheme.is_none() && address.host == rest,
            address,
            is_tls,
        })
    }
}

/// The servers of `--addr` and of the arguments without a flag: replicas of one catalog, in the order of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    first: Endpoint,
    replicas: Vec<Endpoint>,
    /// Whether they were named without `--addr`.
    is_bare: bool,
}

impl Endpoints {
    /// The server that is used first.
    #[must_use]
    pub fn first(&self) -> &Endpoint {
        &self.first
    }

    /// The others, in the order of use.
    #[must_use]
    pub fn replicas(&self) -> &[Endpoint] {
        &self.replicas
    }

    /// All servers.
    pub fn all(&self) -> impl Iterator<Item = &Endpoint> {
        std::iter::once(&self.first).chain(&self.replicas)
    }

    /// The server with this address, as [`Endpoint`] displays it.
    #[must_use]
    pub fn find(&self, address: &str) -> Option<&Endpoint> {
        self.all().find(|at| at.to_string() == address)
    }

    /// How a user asks for TLS to this server.
    #[must_use]
    pub fn tls_flag(&self, at: &Endpoint) -> String {
        match self.is_bare {
            true => format!("jtps://{at}"),
            false => "--tls".to_owned(),
        }
    }

    /// What a user should check if a server is not reached.
    #[must_use]
    pub fn flag(&self) -> &'static str {
        if self.is_bare {
            "the address"
        } else {
            "--addr"
        }
    }
}

/// All addresses, separated by commas.
impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, endpoint) in self.all().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{endpoint}")?;
        }
        Ok(())
    }
}

const ADDR: &str = "addr";
const SERVERS: &str = "servers";

// Not derived: `--addr` and the arguments without a flag become one list, and are checked against `--no-tls`.
impl Args for Endpoints {
    fn augment_args(command: Command) -> Command {
        let arg = |name: &'static str, value: &'static str| {
            Arg::new(name)
                .value_name(value)
                .value_parser(Endpoint::from_str)
        };
        command
            .arg(
                arg(SERVERS, "ADDR")
                    .action(ArgAction::Append)
                    .num_args(0..)
                    .conflicts_with(ADDR)
                    .help("Server to fetch from: HOST or HOST:PORT, with jtps:// for TLS. Several are replicas of one catalog: when one fails, the next one goes on"),
            )
            .arg(
                arg(ADDR, "HOST:PORT")
                    .long(ADDR)
                    .default_value(DEFAULT)
                    .help_heading("Server")
                    .help("Server to fetch from if no ADDR is given; the default port is 8443"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Endpoints::augment_args(command)
    }
}

impl FromArgMatches for Endpoints {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Endpoints, clap::Error> {
        let conflict = |message: String| clap::Error::raw(ErrorKind::ArgumentConflict, message);
        let get = |name| {
            let values = matches
                .try_get_many::<Endpoint>(name)
                .map_err(|error| clap::Error::raw(ErrorKind::InvalidValue, error))?;
            Ok::<_, clap::Error>(values.into_iter().flatten().cloned().collect::<Vec<_>>())
        };
        let servers = get(SERVERS)?;
        let is_bare = !servers.is_empty();
        let all = if is_bare { servers } else { get(ADDR)? };
        let is_plain = matches
            .try_get_one::<bool>("no_tls")
            .is_ok_and(|plain| plain == Some(&true));
        if let Some(endpoint) = all.iter().find(|at| at.is_tls && is_plain) {
            return Err(conflict(format!(
                "jtps://{endpoint} asks for TLS, and --no-tls for plain TCP; leave out one of them"
            )));
        }
        // As for rsync, the folder would be the last argument.
        let is_folder = |at: &&Endpoint| at.is_host_alone && Path::new(&at.address.host).is_dir();
        if let Some(Endpoint { address, .. }) = all.iter().filter(|_| is_bare).find(is_folder) {
            return Err(conflict(format!(
                "{0} is a folder; pass it with --out, or write {0}:{1} for a server of this name",
                address.host, address.port
            )));
        }
        let mut all = all.into_iter();
        let first = all
            .next()
            .ok_or_else(|| clap::Error::new(ErrorKind::MissingRequiredArgument))?;
        Ok(Endpoints {
            first,
            replicas: all.collect(),
            is_bare,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Endpoints::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_args::ClientArgs;
    use clap::Parser;

    #[test]
    fn all_forms_of_addresses_are_parsed() {
        for (text, address, is_tls) in [
            ("h", "h:8443", false),
            ("h:1", "h:1", false),
            ("::1", "[::1]:8443", false),
            ("[::1]:1", "[::1]:1", false),
            ("jtp://h/", "h:8443", false),
            ("jtps://h", "h:8443", true),
            ("JTPS://h:1/", "h:1", true),
            ("jtps://[::1]", "[::1]:8443", true),
            ("jtps://::1", "[::1]:8443", true),
            (" jtps://h ", "h:8443", true),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), address, "{text}");
            assert_eq!(endpoint.is_tls, is_tls, "{text}");
        }
        for bad in [
            "",
            "jtps://",
            "jtps:///a",
            "jtps://h/a",
            "jtps://h//",
            "h/",
            "h?",
            "h#a",
            "a://h",
            "://h",
            "jtps://h:x",
            "jtps://jtps://h",
            "jtps:h",
        ] {
            let parsed = bad.parse::<Endpoint>();
            assert!(parsed.is_err(), "{bad}: {parsed:?}");
        }
    }

    #[test]
    fn servers_are_kept_in_their_order_and_the_flag_is_one_alone() {
        let servers = |line: &str| {
            let words = std::iter::once("client").chain(line.split_whitespace());
            ClientArgs::try_parse_from(words).unwrap().servers
        };
        let several = servers("b:1 --batch jtps://a:2 b:1 -k c");
        assert_eq!(several.to_string(), "b:1, a:2, b:1, c:8443");
        assert_eq!(several.flag(), "the address");
        let found = several.find("a:2").unwrap();
        assert!(found.is_tls);
        assert_eq!(found.plain_flag(), "jtp://a:2");
        assert_eq!(several.tls_flag(several.first()), "jtps://b:1");
        let one = servers("--addr a --addr jtps://b");
        assert_eq!(one.to_string(), "b:8443");
        assert_eq!(one.flag(), "--addr");
        assert_eq!(servers("").to_string(), DEFAULT);
    }
}
