//! Invalid flags, help and version.

use crate::support::{CLIENT, SERVER, TestDir};

#[test]
fn invalid_flags_are_reported_and_exit_2() {
    let dir = TestDir::new();
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
        (SERVER, &["--clients", "a", "--no-tls"]),
        (SERVER, &["--clients", "a", "--allow-plain"]),
        (CLIENT, &["--nonsense"]),
        (CLIENT, &["--addr", "http://127.0.0.1"]),
        (CLIENT, &["--addr", "127.0.0.1:99999"]),
        (CLIENT, &["--parallel", "0"]),
        (CLIENT, &["--parallel", "33"]),
        (CLIENT, &["--repeat", "0"]),
        (CLIENT, &["--list", "--batch"]),
        (CLIENT, &["--list", "--watch"]),
        (CLIENT, &["--max-image-size", "huge"]),
        (CLIENT, &["--max-image-size", "4GiB"]),
        (CLIENT, &["--timeout", "-1"]),
        (CLIENT, &["--show-identity"]),
        (CLIENT, &["--identity", "a", "--plain"]),
        (CLIENT, &["--pin", "sha256:0a"]),
    ] {
        let output = dir.run(program, args);
        output.assert_exit(2);
        output.assert_out("");
        assert!(output.err.starts_with("error: "), "{args:?}: {output:?}");
    }
}

#[test]
fn help_has_groups_defaults_and_examples() {
    let dir = TestDir::new();
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
            let output = dir.run(program, &[flag]);
            output.assert_exit(0);
            // Ignores line breaks.
            let words_of_help: Vec<_> = output.out.split_whitespace().collect();
            let help = words_of_help.join(" ");
            for word in words {
                assert!(help.contains(word), "{word}: {}", output.out);
            }
        }
        dir.run(program, "--version")
            .assert_exit(0)
            .assert_in_out(env!("CARGO_PKG_VERSION"));
    }
}
