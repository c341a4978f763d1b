//! Wrong flags, help and version.

use crate::support::{CLIENT, Place, SERVER};

#[test]
fn each_wrong_flag_is_told_and_exits_2() {
    let place = Place::new();
    for (program, args) in [
        (SERVER, &["--nonsense"][..]),
        (SERVER, &["stray"]),
        (SERVER, &["--bind", "nowhere:port"]),
        (SERVER, &["--cert", "mine.pem"]),
        (SERVER, &["--key", "mine.pem"]),
        (SERVER, &["--compression-threshold", "2"]),
        (SERVER, &["--keep-alive-timeout", "soon"]),
        (SERVER, &["--rate-limit", "many"]),
        (SERVER, &["--no-tls", "--require-tls"]),
        (CLIENT, &["--nonsense"]),
        (CLIENT, &["--addr", "http://127.0.0.1"]),
        (CLIENT, &["--addr", "127.0.0.1:99999"]),
        (CLIENT, &["--parallel", "0"]),
        (CLIENT, &["--parallel", "33"]),
        (CLIENT, &["--repeat", "0"]),
        (CLIENT, &["--list", "--batch"]),
        (CLIENT, &["--list", "--watch"]),
        (CLIENT, &["--max-image-size", "huge"]),
        (CLIENT, &["--timeout", "-1"]),
    ] {
        let ended = place.run(program, args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert_eq!(ended.out, "");
        assert!(ended.err.starts_with("error: "), "{args:?}: {ended:?}");
    }
}

#[test]
fn help_is_grouped_and_has_defaults_and_examples() {
    let place = Place::new();
    for (program, words) in [
        (
            SERVER,
            [
                "TLS:",
                "Limits:",
                "Examples:",
                "[default: 0.0.0.0:8443]",
                "images-dir",
                "Exit codes",
            ],
        ),
        (
            CLIENT,
            [
                "Network:",
                "What to do:",
                "Examples:",
                "[default: 127.0.0.1:8443]",
                "delta",
                "Exit codes",
            ],
        ),
    ] {
        for flag in ["--help", "-h"] {
            let ended = place.run(program, &[flag]);
            assert_eq!(ended.code, Some(0));
            // Wherever the lines were broken.
            let words_of_help: Vec<_> = ended.out.split_whitespace().collect();
            let help = words_of_help.join(" ");
            for word in words {
                assert!(help.contains(word), "{word}: {}", ended.out);
            }
        }
        let version = place.run(program, &["--version"]);
        assert_eq!(version.code, Some(0));
        assert!(
            version.out.contains(env!("CARGO_PKG_VERSION")),
            "{version:?}"
        );
    }
}
