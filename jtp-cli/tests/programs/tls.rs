//! TLS and plain TCP, and clients that use the wrong one.

use crate::support::{ALL, CLIENT, TestDir};

#[test]
fn t2_default_server_accepts_plain_and_tls() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    dir.fetch(&server, "").assert_success(ALL);
    assert_eq!(dir.files("images"), dir.files("output"));
    dir.fetch(&server, "--tls --out by-tls").assert_success(ALL);
    assert_eq!(dir.files("images"), dir.files("by-tls"));
    dir.fetch(&server, "--tls --server-name 127.0.0.1 --out by-address")
        .assert_success(ALL);
    // The last option wins.
    dir.fetch(&server, "--tls --plain --tls --cert nowhere")
        .assert_failure(5, &["nowhere"]);
    dir.fetch(&server, "--tls --no-tls --cert nowhere")
        .assert_success(ALL);
}

#[test]
fn t2_client_that_uses_the_wrong_transport_is_pointed_to_the_flag_or_the_scheme() {
    let dir = TestDir::with_images();
    let (tls, plain) = (dir.serve("--require-tls"), dir.serve("--plain"));
    let (at_tls, at_plain) = (&tls.address, &plain.address);
    // With an explicit certificate, because a machine without root certificates would fail earlier.
    for (args, message) in [
        (
            format!("--addr {at_tls}"),
            format!("{at_tls} requires TLS; use --tls"),
        ),
        (at_tls.clone(), format!("requires TLS; use jtps://{at_tls}")),
        (
            format!("--addr {at_plain} --tls --cert cert.pem"),
            format!("{at_plain} does not speak TLS; use --plain"),
        ),
        (
            format!("jtps://{at_plain} --cert cert.pem"),
            format!("does not speak TLS; use jtp://{at_plain} if"),
        ),
    ] {
        dir.run(CLIENT, &args).assert_failure(5, &[&message]);
    }
    assert!(!dir.path("output").exists());
}
