//! The command line of the program `server`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};

use crate::address::Address;
use crate::units::{parse_seconds, parse_size, unless_zero};

const EXAMPLES: &str = "\
Examples:
  server --images ~/Pictures
  server --images ~/Pictures --bind '[::]:8443' --require-tls --rate-limit 20
  server --images scans --only .bmp --bind 127.0.0.1:0

Images are the files right in the folder that have a known extension; the folder is followed.
Seconds are plain numbers, or have a unit: 500ms, 30s, 5m. Sizes: 64KiB, 10GiB, 5MB. For times and rates 0 means none.
Ctrl-C or SIGTERM finishes what is under way and ends; a second one ends at once.
Exit codes: 0 all well, 1 error, 2 wrong usage.";

/// Share the images of a folder by JTP, the Jason Transfer Protocol.
///
/// The images are the files right in the folder that have a known extension. What appears, changes or goes
/// while the server runs is noticed.
#[derive(Debug, Clone, Parser)]
#[command(name = "server", version, after_help = EXAMPLES, max_term_width = 100, long_about = None, args_override_self = true)]
pub struct ServerArgs {
    /// Folder whose images are shared
    #[arg(
        long,
        visible_alias = "images-dir",
        value_name = "DIR",
        default_value = "images",
        help_heading = "Images"
    )]
    pub images: PathBuf,

    /// Share only files whose name contains this, in upper or lower case
    #[arg(
        long,
        visible_alias = "name-contains",
        value_name = "SUBSTRING",
        help_heading = "Images"
    )]
    pub only: Option<String>,

    /// Compress a BMP or other image if that brings it below this share of its size; 0 never compresses
    #[arg(
        long,
        visible_alias = "compress-threshold",
        value_name = "R",
        default_value_t = 0.95,
        value_parser = parse_share,
        help_heading = "Images"
    )]
    pub compression_threshold: f64,

    /// Let clients wait for new images (this is the default)
    #[arg(long, overrides_with = "no_watch", help_heading = "Images")]
    pub watch: bool,

    /// Refuse clients that want to wait for new images; the folder is followed all the same
    #[arg(long, overrides_with = "watch", help_heading = "Images")]
    pub no_watch: bool,

    /// Look through the folder at this interval, rather than be told of changes by the system
    #[arg(long, value_name = "SEC", value_parser = parse_seconds, help_heading = "Images")]
    pub watch_interval: Option<Duration>,

    /// Folder for the index of IDs and for compressed images [default: jtp in the user's cache folder]
    #[arg(long, value_name = "DIR", help_heading = "Cache")]
    pub cache_dir: Option<PathBuf>,

    /// Room for compressed images there; those used least recently go first. 0 keeps them in memory
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = parse_size, help_heading = "Cache")]
    pub cache_size: u64,

    /// Read every file anew, whatever the index says
    #[arg(long, help_heading = "Cache")]
    pub checksum: bool,

    /// Address and port to listen on; port 0 picks a free one
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:8443",
        help_heading = "Network"
    )]
    pub bind: Address,

    /// Send small packets late, to send fewer
    #[arg(long, help_heading = "Network")]
    pub no_tcp_nodelay: bool,

    /// Plain TCP alone, without TLS
    #[arg(
        long,
        visible_alias = "plain",
        conflicts_with = "require_tls",
        help_heading = "TLS"
    )]
    pub no_tls: bool,

    /// Plain TCP for nobody [without this: for clients on this machine]
    #[arg(long, conflicts_with = "allow_plain", help_heading = "TLS")]
    pub require_tls: bool,

    /// Plain TCP for everybody beside TLS
    #[arg(long, help_heading = "TLS")]
    pub allow_plain: bool,

    /// Certificate (PEM); made with its key on the first start if neither is there [default: cert.pem]
    #[arg(long, value_name = "PATH", requires = "key", help_heading = "TLS")]
    pub cert: Option<PathBuf>,

    /// Private key of the certificate (PEM) [default: key.pem]
    #[arg(long, value_name = "PATH", requires = "cert", help_heading = "TLS")]
    pub key: Option<PathBuf>,

    /// Most requests of one client address (IPv6: of one /64 network) in a window; 0 sets no limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        help_heading = "Limits"
    )]
    pub rate_limit: u32,

    /// Length of that window
    #[arg(long, value_name = "SEC", default_value = "1", value_parser = parse_seconds, help_heading = "Limits")]
    pub rate_limit_window: Duration,

    /// How long a connection may be idle between requests
    #[arg(long, value_name = "SEC", default_value = "30", value_parser = parse_seconds, help_heading = "Limits")]
    pub keep_alive_timeout: Duration,

    /// Most connections at a time
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4096,
        help_heading = "Limits"
    )]
    pub max_connections: usize,

    /// Most connections at a time of one client address (IPv6: of one /64 network); 0 sets no limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        help_heading = "Limits"
    )]
    pub max_connections_per_ip: usize,

    /// How long the end waits for what is under way
    #[arg(long, value_name = "SEC", default_value = "30", value_parser = parse_seconds, help_heading = "Limits")]
    pub drain_timeout: Duration,

    /// Log more; -vv for even more (RUST_LOG works too)
    #[arg(long, short, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

impl ServerArgs {
    /// The certificate's file.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.cert.clone().unwrap_or_else(|| "cert.pem".into())
    }

    /// The key's file.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.key.clone().unwrap_or_else(|| "key.pem".into())
    }

    /// Requests and their window, if there is a limit.
    #[must_use]
    pub fn rate_limit(&self) -> Option<(u32, Duration)> {
        let window = unless_zero(self.rate_limit_window)?;
        (self.rate_limit > 0).then_some((self.rate_limit, window))
    }

    /// The interval of rescans, if there is one.
    #[must_use]
    pub fn rescan(&self) -> Option<Duration> {
        self.watch_interval.and_then(unless_zero)
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
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
    fn the_command_line_is_well_formed() {
        ServerArgs::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_the_contracts() {
        let args = parse("").unwrap();
        assert_eq!(args.bind.to_string(), "0.0.0.0:8443");
        assert_eq!(args.images, PathBuf::from("images"));
        assert_eq!(args.compression_threshold, 0.95);
        assert_eq!(args.keep_alive_timeout, Duration::from_secs(30));
        assert_eq!(args.drain_timeout, Duration::from_secs(30));
        assert_eq!(args.rate_limit(), None);
        assert_eq!(args.max_connections, 4096);
        assert_eq!(
            (args.cert(), args.key()),
            ("cert.pem".into(), "key.pem".into())
        );
        assert_eq!(args.rescan(), None);
        assert_eq!((args.cache_dir, args.cache_size), (None, 10 << 30));
        assert!(!args.checksum);
        assert!(!args.no_tls && !args.require_tls && !args.allow_plain && !args.no_watch);
    }

    #[test]
    fn aliases_and_units_are_understood() {
        let args = parse(
            "--images-dir a --name-contains b --compress-threshold 0 --plain --rate-limit 5 \
             --cache-dir c --cache-size 64KiB --checksum --rate-limit-window 500ms --watch --watch-interval 2 -vv --bind [::1]",
        )
        .unwrap();
        assert_eq!(args.images, PathBuf::from("a"));
        assert_eq!(args.only.as_deref(), Some("b"));
        assert!(args.no_tls);
        assert_eq!(args.rate_limit(), Some((5, Duration::from_millis(500))));
        assert_eq!(args.rescan(), Some(Duration::from_secs(2)));
        assert_eq!(args.verbose, 2);
        assert_eq!(
            (args.cache_dir, args.cache_size),
            (Some("c".into()), 65_536)
        );
        assert!(args.checksum);
        assert_eq!(args.bind.to_string(), "[::1]:8443");
        assert!(parse("--watch --no-watch").unwrap().no_watch);
        assert!(!parse("--no-watch --watch").unwrap().no_watch);
        assert_eq!(
            parse("--rate-limit 5 --rate-limit-window 0")
                .unwrap()
                .rate_limit(),
            None
        );
    }

    #[test]
    fn wrong_usage_exits_2() {
        for wrong in [
            "--bind :",
            "--bind host:x",
            "--cert a",
            "--key a",
            "--compression-threshold 1.5",
            "--compression-threshold nan",
            "--keep-alive-timeout soon",
            "--rate-limit -1",
            "--rate-limit many",
            "--max-connections x",
            "--cache-size big",
            "--cache-dir",
            "--no-tls --require-tls",
            "--allow-plain --require-tls",
            "--images",
            "--nonsense",
            "stray",
        ] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
    }
}
