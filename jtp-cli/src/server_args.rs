//! The command line of the program `server`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use ipnet::IpNet;

use crate::address::Address;
use crate::logging::LogFormat;
use crate::network::parse_proxies;
use crate::pattern_args::PathPatternArgs;
use crate::units::{none_if_zero, parse_seconds, parse_size};

/// The heading of the flags about images.
pub(crate) const IMAGES: &str = "Images";

const EXAMPLES: &str = "\
Examples:
  server --images ~/Pictures
  server --images ~/Pictures --bind '[::]:8443' --require-tls --rate-limit 20
  server --images ~/Pictures --clients clients.txt
  server --images scans --only .bmp --bind 127.0.0.1:0
  server --images ~/Pictures --include '*.jpg' --exclude 'draft-*'
  server --images ~/Pictures --recursive
  server --images s3://photos/2024

Images are the files directly in the folder (with --recursive, also in its sub-folders) that have a known extension or
begin like a PNG, JPEG, WebP, BMP or GIF. Hidden files, temporary files and backups are left out. Changes in the folder are picked up.
Times are in seconds or have a unit: 500ms, 30s, 5m. Sizes: 64KiB, 10GiB, 5MB. For times and rates, 0 means no limit.
Ctrl-C or SIGTERM finishes requests in progress and exits; a second signal exits immediately.
SIGHUP reads --cert, --key and --clients again and does not end the server.
Only connections of clients that were removed from --clients end then.
Exit codes: 0 success, 1 error, 2 usage error.";

/// Share the images of a folder over JTP, the Jason Transfer Protocol.
///
/// Images are the files directly in the folder (with --recursive, also in its sub-folders) that have a known extension or
/// begin like a PNG, JPEG, WebP, BMP or GIF. Hidden files, temporary files and backups are left out. Changes in the folder are picked up while the server runs.
#[derive(Debug, Clone, Parser)]
#[command(name = "server", version, after_help = EXAMPLES, max_term_width = 100, long_about = None, args_override_self = true)]
pub struct ServerArgs {
    /// Folder of images to share, or the URL of images in an object store: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX,
    /// az://CONTAINER/PREFIX or file:///FOLDER
    #[arg(
        long,
        visible_alias = "images-dir",
        value_name = "DIR|URL",
        default_value = "images",
        help_heading = IMAGES
    )]
    pub images: PathBuf,

    /// Share the images in sub-folders too, with their paths as names; hidden folders and links to folders are left out
    #[arg(long, short, help_heading = IMAGES)]
    pub recursive: bool,

    /// Share only files whose name (with --recursive: path below the folder) contains this text, ignoring case
    #[arg(
        long,
        visible_alias = "name-contains",
        value_name = "SUBSTRING",
        help_heading = IMAGES
    )]
    pub only: Option<String>,

    /// `--include` and `--exclude`.
    #[command(flatten)]
    pub patterns: PathPatternArgs,

    /// Compress an image if that reduces it below this fraction of its size; 0 disables compression
    #[arg(
        long,
        visible_alias = "compress-threshold",
        value_name = "R",
        default_value_t = 0.95,
        value_parser = parse_fraction,
        help_heading = IMAGES
    )]
    pub compression_threshold: f64,

    /// Bring the catalog of an object store up to date, and exit: for a job that only indexes
    #[arg(long, help_heading = IMAGES)]
    pub index_only: bool,

    /// Let clients watch for new images (the default)
    #[arg(long, overrides_with = "no_watch", help_heading = IMAGES)]
    pub watch: bool,

    /// Refuse to let clients watch for new images; the catalog still follows the folder
    #[arg(long, overrides_with = "watch", help_heading = IMAGES)]
    pub no_watch: bool,

    /// Rescan the folder at this interval instead of using file system events; list an object store at this interval
    #[arg(long, value_name = "SEC", value_parser = parse_seconds, help_heading = IMAGES)]
    pub watch_interval: Option<Duration>,

    /// Folder for the ID index and compressed images; no other user may write to it [default: CACHE_DIRECTORY as set by systemd, or jtp in the user's cache folder]
    #[arg(long, value_name = "DIR", help_heading = "Cache")]
    pub cache_dir: Option<PathBuf>,

    /// Maximum size of the compressed images there; the least recently used are evicted. 0 keeps them in memory
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = parse_size, help_heading = "Cache")]
    pub cache_size: u64,

    /// Keep copies of images from an object store in the cache folder, up to this size; the least recently used are evicted.
    /// Several servers can share the folder. 0 keeps none
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size, help_heading = "Cache")]
    pub store_cache_size: u64,

    /// Hash every file again instead of trusting the index
    #[arg(long, help_heading = "Cache")]
    pub checksum: bool,

    /// Address and port to listen on; port 0 picks a free port
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:8443",
        help_heading = "Network"
    )]
    pub bind: Address,

    /// Proxies (addresses or networks, repeatable, or separated by commas): their connections must begin with a PROXY
    /// protocol header, version 2, which names the client. List only proxies: others could choose their address
    #[arg(
        long,
        value_name = "ADDR[/PREFIX]",
        value_delimiter = ',',
        value_parser = parse_proxies,
        help_heading = "Network"
    )]
    pub proxy_protocol: Vec<IpNet>,

    /// Do not confine the process to the images folder and the cache (Linux: Landlock)
    #[arg(long, help_heading = "Operation")]
    pub no_sandbox: bool,

    /// Serve metrics for Prometheus at http://ADDR/metrics, and the health of the server at /healthz. Everyone who can
    /// connect can read them: a loopback address such as 127.0.0.1:9184 is a good choice
    #[arg(long, value_name = "ADDR", value_parser = parse_socket_address, help_heading = "Network")]
    pub metrics: Option<SocketAddr>,

    /// Do not set TCP_NODELAY: small writes may be delayed and merged
    #[arg(long, help_heading = "Network")]
    pub no_tcp_nodelay: bool,

    /// Serve plain TCP only, without TLS
    #[arg(
        long,
        visible_alias = "plain",
        conflicts_with = "require_tls",
        help_heading = "TLS"
    )]
    pub no_tls: bool,

    /// Refuse plain TCP [default: plain TCP from this machine only]
    #[arg(long, conflicts_with = "allow_plain", help_heading = "TLS")]
    pub require_tls: bool,

    /// Accept plain TCP from all clients, in addition to TLS
    #[arg(long, help_heading = "TLS")]
    pub allow_plain: bool,

    /// Certificate (PEM); generated with its key at the first start if neither exists [default: cert.pem]
    #[arg(long, value_name = "PATH", requires = "key", help_heading = "TLS")]
    pub cert: Option<PathBuf>,

    /// Private key of the certificate (PEM) [default: key.pem]
    #[arg(long, value_name = "PATH", requires = "cert", help_heading = "TLS")]
    pub key: Option<PathBuf>,

    /// Admit only clients whose keys are in this file: lines "sha256:HEX name", # comments. Implies --require-tls
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["no_tls", "allow_plain"],
        help_heading = "TLS"
    )]
    pub clients: Option<PathBuf>,

    /// Maximum requests, and TLS handshakes, per window from one client address (IPv6: one /64 network); 0 means no
    /// limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        help_heading = "Limits"
    )]
    pub rate_limit: u32,

    /// Length of the rate limit window
    #[arg(long, value_name = "SEC", default_value = "1", value_parser = parse_seconds, help_heading = "Limits")]
    pub rate_limit_window: Duration,

    /// How long a connection may be idle between requests
    #[arg(long, value_name = "SEC", default_value = "30", value_parser = parse_seconds, help_heading = "Limits")]
    pub keep_alive_timeout: Duration,

    /// Maximum concurrent connections
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4096,
        help_heading = "Limits"
    )]
    pub max_connections: usize,

    /// Maximum concurrent connections from one client address (IPv6: one /64 network); 0 means no limit
    /// [default: an eighth of --max-connections]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_connections_per_ip: Option<usize>,

    /// Maximum concurrent clients that watch. Above it, the one that has been idle longest is disconnected, of the address
    /// with the most. 0 means no limit [default: half of --max-connections]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_watchers: Option<usize>,

    /// Maximum concurrent TLS handshakes; others wait, and client addresses take turns. 0 means no limit
    /// [default: 4 per processor]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_handshakes: Option<usize>,

    /// How long a shutdown waits for requests in progress
    #[arg(long, value_name = "SEC", default_value = "30", value_parser = parse_seconds, help_heading = "Limits")]
    pub drain_timeout: Duration,

    /// Format of the log on stderr
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        help_heading = "Output"
    )]
    pub log_format: LogFormat,

    /// Log more; -vv for even more (RUST_LOG also works)
    #[arg(long, short, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

impl ServerArgs {
    /// The certificate file.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.cert.clone().unwrap_or_else(|| "cert.pem".into())
    }

    /// The private key file.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.key.clone().unwrap_or_else(|| "key.pem".into())
    }

    /// The maximum number of requests per window, and the window, if there is a limit.
    #[must_use]
    pub fn rate_limit(&self) -> Option<(u32, Duration)> {
        let window = none_if_zero(self.rate_limit_window)?;
        (self.rate_limit > 0).then_some((self.rate_limit, window))
    }

    /// The rescan interval, if one is set.
    #[must_use]
    pub fn rescan(&self) -> Option<Duration> {
        self.watch_interval.and_then(none_if_zero)
    }
}

fn parse_socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:9184".to_owned())
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(fraction) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<ServerArgs, clap::Error> {
        ServerArgs::try_parse_from(std::iter::once("server").chain(line.split_whitespace()))
    }

    #[test]
    fn command_definition_is_valid() {
        ServerArgs::command().debug_assert();
    }

    #[test]
    fn defaults_are_as_documented() {
        let args = parse("").unwrap();
        assert_eq!(args.bind.to_string(), "0.0.0.0:8443");
        assert_eq!(args.images, PathBuf::from("images"));
        assert_eq!(args.compression_threshold, 0.95);
        assert_eq!(args.keep_alive_timeout, Duration::from_secs(30));
        assert_eq!(args.drain_timeout, Duration::from_secs(30));
        assert_eq!(args.rate_limit(), None);
        assert_eq!(args.max_connections, 4096);
        let others = (args.max_watchers, args.max_handshakes);
        assert_eq!((args.max_connections_per_ip, others), (None, (None, None)));
        assert_eq!(
            (args.cert(), args.key()),
            ("cert.pem".into(), "key.pem".into())
        );
        assert_eq!(args.rescan(), None);
        assert_eq!((args.cache_dir, args.cache_size), (None, 10 << 30));
        assert_eq!(args.store_cache_size, 0);
        assert!(!args.checksum);
        assert_eq!((args.metrics, args.proxy_protocol), (None, vec![]));
        assert_eq!(args.log_format, LogFormat::Text);
        assert!(!args.recursive && !args.index_only);
        assert!(!args.no_tls && !args.require_tls && !args.allow_plain && !args.no_watch);
    }

    #[test]
    fn aliases_and_units_are_parsed() {
        let args = parse(
            "--images-dir a --name-contains b --compress-threshold 0 --plain --rate-limit 5 \
             --cache-dir c --cache-size 64KiB --checksum --max-watchers 7 --max-handshakes 0 --rate-limit-window 500ms --watch --watch-interval 2 -vv --bind [::1]",
        )
        .unwrap();
        assert_eq!(args.images, PathBuf::from("a"));
        assert_eq!(args.only.as_deref(), Some("b"));
        assert!(args.no_tls);
        assert_eq!(args.rate_limit(), Some((5, Duration::from_millis(500))));
        assert_eq!(args.rescan(), Some(Duration::from_secs(2)));
        assert_eq!(args.verbose, 2);
        assert_eq!((args.max_watchers, args.max_handshakes), (Some(7), Some(0)));
        assert_eq!(
            (args.cache_dir, args.cache_size),
            (Some("c".into()), 65_536)
        );
        assert!(args.checksum);
        assert_eq!(args.bind.to_string(), "[::1]:8443");
        assert!(parse("-r").unwrap().recursive && parse("--recursive").unwrap().recursive);
        assert!(parse("--watch --no-watch").unwrap().no_watch);
        assert!(!parse("--no-watch --watch").unwrap().no_watch);
        assert_eq!(
            parse("--rate-limit 5 --rate-limit-window 0")
                .unwrap()
                .rate_limit(),
            None
        );
    }
}
