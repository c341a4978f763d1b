//! The command line of the program `client`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};

use crate::address::Address;
use crate::units::{parse_seconds, parse_size};

const EXAMPLES: &str = "\
Examples:
  client --addr pictures.example --out pictures --batch
  client --addr '[::1]:8443' --tls --cert cert.pem --list
  client --addr jtp://pictures.example --parallel 4 --keep-alive
  client --batch --watch

Every image is checked before its file appears: whole, or not at all.
Seconds are plain numbers, or have a unit: 500ms, 30s, 5m; 0 means none. Sizes: 64KiB, 10GiB, 5MB.
Exit codes: 0 all well, 1 other error, 2 wrong usage, 3 some images failed (the rest are in place),
4 cannot connect, 5 TLS or certificate, 6 protocol error by the server, 7 rate-limited,
8 local disk, 130 interrupted.";

/// The most connections of one client.
pub const MAX_PARALLEL: u8 = 32;

/// Fetch images from a server by JTP, the Jason Transfer Protocol.
///
/// Every image is checked against its ID before its file appears in the output folder: whole, or not at all.
#[derive(Debug, Clone, Parser)]
#[command(name = "client", version, after_help = EXAMPLES, max_term_width = 100, long_about = None, args_override_self = true)]
pub struct ClientArgs {
    /// Server to fetch from; without a port, 8443
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8443",
        help_heading = "Server"
    )]
    pub addr: Address,

    /// Speak TLS
    #[arg(
        long,
        visible_alias = "secure",
        overrides_with = "no_tls",
        help_heading = "Server"
    )]
    pub tls: bool,

    /// Speak plain TCP (this is the default; the last of --tls and --no-tls wins)
    #[arg(
        long,
        visible_alias = "plain",
        overrides_with = "tls",
        help_heading = "Server"
    )]
    pub no_tls: bool,

    /// Name that the server's certificate must hold [default: the host; localhost for a loopback address]
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub server_name: Option<String>,

    /// Certificates to trust (PEM) [default: cert.pem if there is one, else the system's]
    #[arg(long, value_name = "PATH", help_heading = "Server")]
    pub cert: Option<PathBuf>,

    /// Folder for the images; made if missing
    #[arg(
        long,
        visible_alias = "output",
        value_name = "DIR",
        default_value = "output",
        help_heading = "What to do"
    )]
    pub out: PathBuf,

    /// Fetch only what the folder lacks
    #[arg(long, visible_alias = "delta", help_heading = "What to do")]
    pub batch: bool,

    /// With --batch: read every file in the folder anew, whatever the index there says
    #[arg(long, help_heading = "What to do")]
    pub checksum: bool,

    /// Fetch, then stay and fetch each new image, until Ctrl-C
    #[arg(long, short, help_heading = "What to do")]
    pub watch: bool,

    /// Print ID, size, type and name of each image of the server, and fetch nothing
    #[arg(long, conflicts_with_all = ["batch", "watch"], help_heading = "What to do")]
    pub list: bool,

    /// Do the whole job this many times
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "What to do"
    )]
    pub repeat: u32,

    /// Use a connection for many requests
    #[arg(long, short, help_heading = "Network")]
    pub keep_alive: bool,

    /// Share the work among this many connections, 1 to 32
    #[arg(
        long,
        short,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_PARALLEL)),
        help_heading = "Network"
    )]
    pub parallel: u8,

    /// Send requests before earlier ones are answered; only for servers known to keep S1 and C2 of RFC.md
    #[arg(long, help_heading = "Network")]
    pub pipeline: bool,

    /// Send small packets late, to send fewer
    #[arg(long, help_heading = "Network")]
    pub no_tcp_nodelay: bool,

    /// Longest time to connect to an address
    #[arg(long, value_name = "SEC", default_value = "10", value_parser = parse_seconds, help_heading = "Limits")]
    pub connect_timeout: Duration,

    /// Longest time without a byte while the server owes one
    #[arg(long, value_name = "SEC", default_value = "60", value_parser = parse_seconds, help_heading = "Limits")]
    pub timeout: Duration,

    /// How often to try again without getting anywhere, waiting longer each time
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Limits")]
    pub retries: u32,

    /// Refuse images that are larger than this once they are decompressed [default: 4GiB less one byte]
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "4294967295",
        hide_default_value = true,
        value_parser = parse_size,
        help_heading = "Limits"
    )]
    pub max_image_size: u64,

    /// Print errors only
    #[arg(long, short, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,

    /// Log what happens; -vv for more (RUST_LOG works too)
    #[arg(long, short, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<ClientArgs, clap::Error> {
        ClientArgs::try_parse_from(std::iter::once("client").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        ClientArgs::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_the_contracts() {
        let args = parse("").unwrap();
        assert_eq!(args.addr.to_string(), "127.0.0.1:8443");
        assert_eq!(args.out, PathBuf::from("output"));
        assert_eq!((args.parallel, args.repeat, args.retries), (1, 1, 3));
        assert_eq!(args.max_image_size, u64::from(u32::MAX));
        assert_eq!(args.timeout, Duration::from_secs(60));
        assert_eq!(args.connect_timeout, Duration::from_secs(10));
        assert!(!args.checksum);
        assert!(!args.tls && !args.batch && !args.keep_alive && !args.watch && !args.list);
    }

    #[test]
    fn aliases_work_and_the_last_of_tls_and_plain_wins() {
        let args = parse(
            "--addr jtp://h --output o --delta --checksum -k -p 32 -w -vv --max-image-size 64KiB",
        )
        .unwrap();
        assert_eq!(args.addr.to_string(), "h:8443");
        assert_eq!(args.out, PathBuf::from("o"));
        assert!(args.batch && args.checksum && args.keep_alive && args.watch);
        assert_eq!(
            (args.parallel, args.verbose, args.max_image_size),
            (32, 2, 65_536)
        );
        assert!(parse("--secure --tls").unwrap().tls);
        assert!(parse("--plain --tls").unwrap().tls);
        assert!(!parse("--tls --plain").unwrap().tls);
        assert!(!parse("--tls --plain --tls --no-tls").unwrap().tls);
    }

    #[test]
    fn wrong_usage_exits_2() {
        for wrong in [
            "--addr :1",
            "--addr http://h",
            "--parallel 0",
            "--parallel 33",
            "--parallel x",
            "--repeat 0",
            "--retries -1",
            "--list --batch",
            "--list --watch",
            "--max-image-size big",
            "--timeout x",
            "--connect-timeout -1",
            "--quiet --verbose",
            "--cache-dir x",
            "stray",
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
    }
}
