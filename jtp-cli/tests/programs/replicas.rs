//! Servers as arguments without a flag, and several servers of one catalog.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::support::{ALL, CLIENT, FakeServer, Process, TestDir, jtpe, noise};

fn unused_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn port(server: &Process) -> &str {
    server.address.rsplit_once(':').unwrap().1
}

#[test]
fn server_is_named_in_each_form() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    let (at, port) = (&*server.address, port(&server));
    for (index, args) in [
        at,
        &format!("localhost:{port}"),
        &format!("jtp://{at}"),
        &format!("JTP://{at}/"),
        &format!("jtps://{at}"),
        &format!("jtps://localhost:{port}/ --keep-alive"),
        &format!("{at} --tls"),
        // --tls concerns all addresses, jtp:// only names the protocol.
        &format!("jtp://{at} --tls"),
        &format!("--addr jtps://{at}"),
        &format!("--addr {at} --plain"),
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out{index}");
        let args = format!("{args} --out {out}");
        dir.run(CLIENT, &args).assert_success(ALL);
        assert_eq!(dir.files(&out), dir.files("images"), "{args:?}");
    }
}

#[test]
fn server_is_named_by_its_ipv6_address() {
    let dir = TestDir::with_images();
    if TcpListener::bind("[::1]:0").is_err() {
        return; // This machine has no IPv6.
    }
    let server = dir.serve_on("[::1]:0", "");
    for (out, address) in [
        ("plain", server.address.clone()),
        ("tls", format!("jtps://{}", server.address)),
    ] {
        dir.run(CLIENT, &[&address, "--out", out])
            .assert_success(ALL);
    }
    // Without a port, the default one is used.
    let listed = dir.run(CLIENT, "::1 --list --connect-timeout 1");
    assert!(
        listed.code == Some(0) || listed.err.contains("[::1]:8443"),
        "{listed:?}"
    );
}

#[test]
fn n5_a_watcher_of_several_servers_misses_nothing() {
    let dir = TestDir::with_images();
    let first = dir.serve("");
    let second = dir.serve("");
    let address = first.address.clone();
    let args = format!("--watch --batch {address} {}", second.address);
    let client = Process::start(dir.command(CLIENT, &args));
    client.err.wait_for("watching");
    assert!(client.out.next_line().starts_with("fetched 3 images"));
    dir.add("one.png", &noise(400, 5));
    assert_eq!(client.out.next_line(), "fetched one.png (400 B)");
    first.signal(Signal::KILL);
    first.wait();
    dir.add("two.png", &noise(400, 6));
    assert_eq!(client.out.next_line(), "fetched two.png (400 B)");
    client
        .err
        .wait_for(&format!("going on with {}", second.address));
    // Back to the first, which has come again.
    let first = dir.serve_on(&address, "");
    dir.add("three.png", &noise(400, 7));
    assert_eq!(client.out.next_line(), "fetched three.png (400 B)");
    second.signal(Signal::KILL);
    second.wait();
    dir.add("four.png", &noise(400, 8));
    assert_eq!(client.out.next_line(), "fetched four.png (400 B)");
    // None is up for a while.
    first.signal(Signal::KILL);
    first.wait();
    client.err.wait_for("retrying in");
    dir.add("five.png", &noise(400, 9));
    let _first = dir.serve_on(&address, "");
    assert_eq!(client.out.next_line(), "fetched five.png (400 B)");
    client
        .err
        .wait_for(&format!("connected to {address} again"));
    client.end(Signal::INT).assert_exit(130);
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn t7_wrong_certificate_of_one_server_is_a_warning_and_the_next_one_is_used() {
    let dir = TestDir::with_images();
    let good = dir.serve("");
    let other = TestDir::with_images();
    let wrong = other.serve("");
    let cert = dir.path("cert.pem");
    let addresses = [&wrong, &good].map(|server| format!("jtps://{}", server.address));
    let base = format!("{} --cert {}", addresses.join(" "), cert.display());
    let warning = format!(
        "warning: the certificate of {} is not trusted by",
        wrong.address
    );
    for (index, flags) in [
        "",
        "--batch -p 2",
        "--list",
        "--quiet",
        "--list --quiet",
        "--dry-run",
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out{index}");
        let args = format!("{base} {flags} --out {out}");
        let output = dir.run(CLIENT, &args);
        output.assert_exit(0);
        assert_eq!(
            output.err.matches(&warning).count(),
            1,
            "{flags:?}: {output:?}"
        );
        output.assert_in_err(&good.address);
        if index < 2 {
            assert_eq!(dir.files(&out), dir.files("images"));
        }
    }
    dir.run(CLIENT, &format!("{base} --check --out out0"))
        .assert_exit(0)
        .assert_in_err(&warning);
}

#[test]
fn failure_of_all_servers_is_one_line_with_each_address_and_cause() {
    let dir = TestDir::with_images();
    let other = TestDir::with_images();
    let wrong = other.serve("");
    dir.serve("").stop();
    let refused = unused_address();
    let limited = FakeServer::answering(jtpe(5, "slow down"));
    let bad = FakeServer::answering(b"HTTP/1.1 200 OK\r\n\r\n");
    let tls = format!("jtps://{}", wrong.address);
    let (r, l, t, b) = (&*refused, &*limited.addr(), &*tls, &*bad.addr());
    for (servers, code, words) in [
        (
            [r, r, r],
            4,
            &[
                "connection refused; cannot connect",
                "is the server running?",
            ][..],
        ),
        ([r, l, l], 4, &["connection refused", "rate limit exceeded"]),
        ([l, l, l], 7, &["rate limit exceeded", "try later"]),
        ([r, t, t], 5, &["connection refused", "is not trusted"]),
        (
            [t, r, b],
            6,
            &["is not trusted", "refused", "protocol error by"],
        ),
    ] {
        for flags in ["--retries 0", "--list --retries 0", "--check --retries 0"] {
            let args = format!("{} {flags} --cert cert.pem", servers.join(" "));
            let output = dir.run(CLIENT, &args);
            output.assert_failure(code, words);
            let error = output.err.lines().last().unwrap();
            for server in servers {
                let address = server.trim_start_matches("jtps://");
                assert!(error.contains(address), "{address}: {output:?}");
            }
        }
    }
    assert!(!dir.path("output").exists());
    // Not all of many are named.
    let many = format!("{refused} ").repeat(7);
    dir.run(CLIENT, &many)
        .assert_failure(4, &["; and 3 more failed"]);
}

#[test]
fn pins_and_the_server_name_concern_all_servers() {
    let dir = TestDir::with_images();
    let (first, second) = (dir.serve(""), dir.serve(""));
    let names = [&first, &second].map(|server| server.address.clone());
    let addresses = names.join(" ");
    let pin = {
        let other = format!("--tls --pin sha256:{}", "0".repeat(64));
        let output = dir.fetch(&first, &other);
        let at = output.err.find("sha256:").unwrap();
        output.err[at..at + 71].to_owned()
    };
    first.signal(Signal::KILL);
    first.wait();
    let args = format!("{addresses} --pin {pin} --out pinned");
    dir.run(CLIENT, &args)
        .assert_exit(0)
        .assert_in_err("connection refused; going on with");
    dir.run(
        CLIENT,
        &format!("{addresses} --tls --server-name other.example"),
    )
    .assert_failure(5, &["connection refused", "is for localhost"]);
}
