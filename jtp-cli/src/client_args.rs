//! The command line of the program `client`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use jtp_sync::MaxDelete;
use jtp_tokio::tls::KeyFingerprint;

use crate::endpoint::{Endpoint, Endpoints};
use crate::list::SortKey;
use crate::select_args::SelectArgs;
use crate::units::{parse_image_size, parse_max_size, parse_max_time, parse_rate, parse_seconds};

const EXAMPLES: &str = "\
Examples:
  client jtps://pictures.example --out pictures --batch
  client jtps://a.pictures.example jtps://b.pictures.example --batch --watch
  client --addr '[::1]:8443' --tls --cert cert.pem --list
  client jtps://pictures.example --parallel 4 --keep-alive
  client --identity me.pem --show-identity
  client --batch --watch
  client --batch --include '*.jpg' --exclude '*-small.jpg' --dry-run

Every image is verified before its file appears in the output folder; partial files are never visible.
Times are in seconds or have a unit: 500ms, 30s, 5m; 0 means no limit. Sizes: 64KiB, 10GiB, 5MB.
Ctrl-C, SIGTERM and SIGHUP remove temporary files and exit; a second signal exits immediately.
Exit codes: 0 success, 1 other error, 2 usage error, 3 some images failed (all others are stored)
or --check found differences or --mirror deleted nothing, 4 cannot connect, 5 TLS or certificate
error, 6 protocol error by the server, 7 rate-limited, 8 local disk error, 130 interrupted.";

/// The maximum of `--parallel`.
pub const MAX_PARALLEL: u8 = 32;

/// Fetch images from a server over JTP, the Jason Transfer Protocol.
///
/// Every image is verified against its ID before its file appears in the output folder.
#[derive(Debug, Clone, Parser)]
#[command(name = "client", version, after_help = EXAMPLES, max_term_width = 100, long_about = None, args_override_self = true)]
pub struct ClientArgs {
    /// The servers.
    #[command(flatten)]
    pub servers: Endpoints,

    /// Connect with TLS, also to addresses without jtps://
    #[arg(
        long,
        visible_alias = "secure",
        overrides_with = "no_tls",
        help_heading = "Server"
    )]
    pub tls: bool,

    /// Connect with plain TCP (the default; the last of --tls and --no-tls wins)
    #[arg(
        long,
        visible_alias = "plain",
        overrides_with = "tls",
        help_heading = "Server"
    )]
    pub no_tls: bool,

    /// Name to verify in the server's certificate [default: the host of --addr; localhost for a loopback address]
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub server_name: Option<String>,

    /// Certificates to trust (PEM). A CA certificate covers all certificates that it signed, any other one only itself [default: cert.pem if it exists, else the system's roots]
    #[arg(long, value_name = "PATH", help_heading = "Server")]
    pub cert: Option<PathBuf>,

    /// Trust the server that has this key, which it prints when it starts, whatever its certificate. Repeatable; implies --tls
    #[arg(
        long,
        value_name = "sha256:HEX",
        conflicts_with_all = ["cert", "no_tls"],
        help_heading = "Server"
    )]
    pub pin: Vec<KeyFingerprint>,

    /// This client's private key and certificate (PEM), for servers with --clients; created if missing; implies --tls
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "no_tls",
        help_heading = "Server"
    )]
    pub identity: Option<PathBuf>,

    /// Print the line of --identity for the server's --clients file, and exit
    #[arg(long, requires = "identity", help_heading = "Server")]
    pub show_identity: bool,

    /// Folder for the images; created if missing
    #[arg(
        long,
        visible_alias = "output",
        value_name = "DIR",
        default_value = "output",
        help_heading = "What to do"
    )]
    pub out: PathBuf,

    /// Fetch only images that are not in the folder yet
    #[arg(long, visible_alias = "delta", help_heading = "What to do")]
    pub batch: bool,

    /// With --batch or --check: hash every file in the folder again instead of trusting its index
    #[arg(long, help_heading = "What to do")]
    pub checksum: bool,

    /// Fetch, then keep running and fetch each new image until Ctrl-C
    #[arg(long, short, help_heading = "What to do")]
    pub watch: bool,

    /// Print ID, size, type and name of each image on the server; fetch nothing
    #[arg(long, conflicts_with_all = ["batch", "watch"], help_heading = "What to do")]
    pub list: bool,

    /// Print what would be fetched, replaced, renamed and deleted; change nothing. With -v, also print what would stay
    #[arg(long, short = 'n', conflicts_with_all = ["list", "watch"], help_heading = "What to do")]
    pub dry_run: bool,

    /// Compare the folder with the server and print the differences; change nothing; exit code 3 if there are any
    #[arg(long, conflicts_with_all = ["batch", "list", "watch", "dry_run"], help_heading = "What to do")]
    pub check: bool,

    /// With --list: order by name, by size (largest first) or by type [default: the server's order]
    #[arg(
        long,
        value_name = "KEY",
        requires = "list",
        help_heading = "What to do"
    )]
    pub sort: Option<SortKey>,

    /// With --list: human-readable sizes; size, type, ID and name in columns
    #[arg(long, requires = "list", help_heading = "What to do")]
    pub long: bool,

    /// Which images.
    #[command(flatten)]
    pub select: SelectArgs,

    /// Store all images in the output folder itself: do not create or scan sub-folders
    #[arg(long, help_heading = "What to do")]
    pub flat: bool,

    /// Make the folder match the server: rename files, and delete images that the server does not list; implies --batch
    #[arg(long, conflicts_with_all = ["list", "check", "get", "keep_existing"], help_heading = "What to do")]
    pub mirror: bool,

    /// With --mirror: delete nothing if more than this number or percentage of the folder's images would be deleted. An empty catalog requires 100%
    #[arg(
        long,
        value_name = "N|P%",
        default_value = "10%",
        requires = "mirror",
        help_heading = "What to do"
    )]
    pub max_delete: MaxDelete,

    /// Move replaced and deleted files to this folder; inside --out it must be hidden
    #[arg(long, value_name = "DIR", conflicts_with_all = ["list", "check"], help_heading = "What to do")]
    pub backup_dir: Option<PathBuf>,

    /// Do not replace files: an image whose name is in use gets its ID as a suffix
    #[arg(long, conflicts_with_all = ["list", "check"], help_heading = "What to do")]
    pub keep_existing: bool,

    /// Number of times to run the whole job
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "What to do"
    )]
    pub repeat: u32,

    /// Reuse a connection for many requests
    #[arg(long, short, help_heading = "Network")]
    pub keep_alive: bool,

    /// Parallel connections, 1 to 32; for what an existing folder lacks, at most one for each MiB
    #[arg(
        long,
        short,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_PARALLEL)),
        help_heading = "Network"
    )]
    pub parallel: u8,

    /// Send requests before earlier ones are answered; only for servers known to implement S1 and C2 of RFC.md
    #[arg(long, help_heading = "Network")]
    pub pipeline: bool,

    /// Do not set TCP_NODELAY: small writes may be delayed and merged
    #[arg(long, help_heading = "Network")]
    pub no_tcp_nodelay: bool,

    /// Timeout for connecting to one address
    #[arg(long, value_name = "SEC", default_value = "10", value_parser = parse_seconds, help_heading = "Limits")]
    pub connect_timeout: Duration,

    /// Longest wait for the next byte of a response
    #[arg(long, value_name = "SEC", default_value = "60", value_parser = parse_seconds, help_heading = "Limits")]
    pub timeout: Duration,

    /// Retries in a row without progress. The pauses before them double up to 30 s: 3 wait 2 s in all, 8 a minute, 20 seven minutes
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Limits")]
    pub retries: u32,

    /// Reject images larger than this after decompression [default and maximum: 4GiB less one byte]
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "4294967295",
        hide_default_value = true,
        value_parser = parse_image_size,
        help_heading = "Limits"
    )]
    pub max_image_size: u64,

    /// Receive at most this much per second on average, on all connections together; at least 16KiB [default: no limit]
    // The full path keeps clap from treating `Option` as an optional argument: 0 is `None` too.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "0",
        hide_default_value = true,
        value_parser = parse_rate,
        help_heading = "Limits"
    )]
    pub limit_rate: std::option::Option<u64>,

    /// End the job when its images exceed this size in total; stored images are kept; exit code 3 [default: none]
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "0",
        hide_default_value = true,
        value_parser = parse_max_size,
        help_heading = "Limits"
    )]
    pub max_total_size: std::option::Option<u64>,

    /// End the job after this time; stored images are kept; exit code 3 [default: none]
    #[arg(
        long,
        value_name = "SEC",
        default_value = "0",
        hide_default_value = true,
        value_parser = parse_max_time,
        help_heading = "Limits"
    )]
    pub max_time: std::option::Option<Duration>,

    /// Print a JSON object on a line of stdout for each event, and for each image of --list
    #[arg(long, conflicts_with_all = ["long", "show_identity"], help_heading = "Output")]
    pub json: bool,

    /// Print errors only
    #[arg(long, short, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,

    /// Log more; -vv for even more (RUST_LOG also works)
    #[arg(long, short, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

impl ClientArgs {
    /// Whether to connect to this server with TLS.
    #[must_use]
    pub fn uses_tls(&self, server: &Endpoint) -> bool {
        server.is_tls || self.tls || self.identity.is_some() || !self.pin.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<ClientArgs, clap::Error> {
        ClientArgs::try_parse_from(std::iter::once("client").chain(line.split_whitespace()))
    }

    #[test]
    fn command_definition_is_valid() {
        ClientArgs::command().debug_assert();
    }

    #[test]
    fn defaults_are_as_documented() {
        let args = parse("").unwrap();
        assert_eq!(args.servers.to_string(), "127.0.0.1:8443");
        assert_eq!(args.out, PathBuf::from("output"));
        assert_eq!((args.parallel, args.repeat, args.retries), (1, 1, 3));
        assert_eq!(args.max_image_size, u64::from(u32::MAX));
        assert_eq!(args.timeout, Duration::from_secs(60));
        assert_eq!(args.connect_timeout, Duration::from_secs(10));
        assert_eq!((args.max_total_size, args.max_time), (None, None));
        assert!(!args.checksum && !args.flat);
        assert!(!args.tls && !args.batch && !args.keep_alive && !args.watch && !args.list);
    }

    #[test]
    fn aliases_work_and_last_of_tls_and_plain_wins() {
        let args = parse(
            "--addr jtp://h --output o --delta --checksum -k -p 32 -w -vv --max-image-size 64KiB",
        )
        .unwrap();
        assert_eq!(args.servers.to_string(), "h:8443");
        assert_eq!(args.out, PathBuf::from("o"));
        assert!(args.batch && args.checksum && args.keep_alive && args.watch);
        assert_eq!(
            (args.parallel, args.verbose, args.max_image_size),
            (32, 2, 65_536)
        );
        let largest = parse("--max-image-size 4294967295").unwrap();
        assert_eq!(largest.max_image_size, u64::from(u32::MAX));
        assert!(parse("--secure --tls").unwrap().tls);
        assert!(parse("--plain --tls").unwrap().tls);
        assert!(!parse("--tls --plain").unwrap().tls);
        assert!(!parse("--tls --plain --tls --no-tls").unwrap().tls);
    }

    #[test]
    fn t7_pin_and_identity_imply_tls() {
        let pin = format!("--pin sha256:{}", "0a".repeat(32));
        let uses_tls = |line: &str| {
            let args = parse(line).unwrap();
            args.servers.all().all(|at| args.uses_tls(at))
        };
        assert!(!uses_tls(""));
        assert!(uses_tls("--tls"));
        assert!(uses_tls("--identity me.pem"));
        let pins = format!("{pin} --plain --tls {}", pin.replace("0a", "0b"));
        assert!(uses_tls(&pins));
        assert_eq!(parse(&pins).unwrap().pin.len(), 2);
        for other in ["--plain", "--no-tls", "--tls --plain", "--cert a.pem"] {
            let error = parse(&format!("{pin} {other}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{other}");
        }
    }

    #[test]
    fn bounds_of_the_job_are_parsed_and_0_is_none() {
        let args = parse("--max-total-size 10GiB --max-time 5m").unwrap();
        assert_eq!(args.max_total_size, Some(10 << 30));
        assert_eq!(args.max_time, Some(Duration::from_secs(300)));
        let args = parse("--max-total-size 0 --max-time 0s").unwrap();
        assert_eq!((args.max_total_size, args.max_time), (None, None));
    }
}
