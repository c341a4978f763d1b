//! Each option of both programs has a test that runs a program with it, and a value that is rejected.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory};
use jtp_cli::client_args::ClientArgs;
use jtp_cli::server_args::ServerArgs;

use crate::support::{CLIENT, Process, SERVER, TestDir, noise};

/// The program, the option as the test passes it, and the file and the function of the test. `tests/` are the tests of
/// the whole workspace, which run the same programs.
const TESTS: &str = "
client ADDR                     replicas                 server_is_named_in_each_form
client --addr                   failures                 connect_failure_exits_4_and_creates_no_folder
client --backup-dir             mirror                   backup_dir_keeps_what_is_deleted_and_replaced
client --batch                  fetching                 batch_fetches_only_missing_images
client --cert                  trust                    client_says_what_it_verifies_the_server_with
client --check                  planning                 check_prints_the_differences_and_exits_with_0_or_3
client --checksum               caching                  client_trusts_its_index_without_checksum_flag
client --connect-timeout        replicas                 server_is_named_by_its_ipv6_address
client --dry-run                planning                 dry_run_prints_a_line_for_each_change_and_changes_nothing
client --exclude                selecting                only_selected_images_are_fetched_and_listed_in_each_mode
client --flat                   folders                  w9_flat_keeps_all_images_in_one_folder
client --get                    selecting                only_selected_images_are_fetched_and_listed_in_each_mode
client --help                   options                  help_has_groups_defaults_and_examples
client --identity               identity                 t7_exactly_the_listed_clients_are_admitted
client --include                selecting                only_selected_images_are_fetched_and_listed_in_each_mode
client --json                   json/mod                 a_fetch_reports_each_image_and_its_summary
client --keep-alive             failures                 s15_rate_limited_requests_are_retried_then_exit_7
client --keep-existing          mirror                   keep_existing_replaces_no_file
client --limit-rate             fetching                 a_limited_rate_applies_to_all_connections_together
client --list                   fetching                 list_prints_one_line_per_image_and_fetches_nothing
client --long                   selecting                list_is_sorted_and_printed_long
client --max-delete             mirror                   shrunken_or_wrong_source_deletes_nothing
client --max-image-size         failures                 r4_an_image_over_the_size_limit_fails_alone
client --max-time               selecting                limits_of_the_job_go_by_the_selected_images
client --max-total-size         selecting                limits_of_the_job_go_by_the_selected_images
client --mirror                 mirror                   mirror_follows_renames_and_removals_while_it_watches
client --no-tcp-nodelay         fetching                 all_connection_options_fetch_the_same_images
client --no-tls                tls                      t2_default_server_accepts_plain_and_tls
client --out                    fetching                 all_connection_options_fetch_the_same_images
client --parallel               fetching                 all_connection_options_fetch_the_same_images
client --pin                    trust                    t7_pinned_key_replaces_certificate_name_and_dates
client --pipeline               fetching                 all_connection_options_fetch_the_same_images
client --quiet                  fetching                 all_connection_options_fetch_the_same_images
client --repeat                 fetching                 all_connection_options_fetch_the_same_images
client --retries                failures                 r6_early_close_is_retried_then_exits_4
client --server-name           trust                    client_says_what_it_verifies_the_server_with
client --show-identity          identity                 t7_identity_is_created_once_with_mode_0600
client --sort                   selecting                list_is_sorted_and_printed_long
client --timeout                failures                 r6_early_close_is_retried_then_exits_4
client --tls                   tls                      t2_default_server_accepts_plain_and_tls
client --type                   selecting                only_selected_images_are_fetched_and_listed_in_each_mode
client -v                       failures                 r6_verbose_client_logs_why_it_tries_again
client --version                options                  help_has_groups_defaults_and_examples
client --watch                  replicas                 n5_a_watcher_of_several_servers_misses_nothing
server --allow-plain            server                   startup_log_names_images_address_and_transport
server --bind                   server                   bind_errors_are_reported_before_images_are_read
server --cache-dir              caching                  server_trusts_its_index_without_checksum_flag
server --cache-size             options                  cache_size_0_writes_no_compressed_images
server --cert                   certificates             server_says_why_a_key_cannot_be_used
server --checksum               caching                  server_trusts_its_index_without_checksum_flag
server --clients                identity                 t7_exactly_the_listed_clients_are_admitted
server --compression-threshold  server                   only_and_compression_options_apply
server --drain-timeout          service_manager          readiness_and_stop_are_notified
server --exclude                left_out                 the_last_pattern_that_matches_decides_and_only_applies_as_well
server --help                   options                  help_has_groups_defaults_and_examples
server --images                 server                   missing_images_folder_is_named_in_the_error
server --include                left_out                 the_last_pattern_that_matches_decides_and_only_applies_as_well
server --index-only             object_store             images_of_an_object_store_are_indexed_once_and_served
server --keep-alive-timeout     options                  keep_alive_timeout_closes_an_idle_connection
server --key                    certificates             server_says_why_a_key_cannot_be_used
server --log-format             logging                  json_log_has_one_object_a_line_with_fields_and_spans
server --max-connections        tests/hostile/floods     connections_over_the_limit_are_closed_at_accept
server --max-connections-per-ip tests/hostile/floods     connections_over_the_limit_are_closed_at_accept
server --max-handshakes         tests/hostile/handshakes t8_handshakes_that_wait_for_their_client_delay_no_other
server --max-watchers           tests/hostile/watchers   t8_over_the_limit_the_address_with_the_most_watchers_loses_its_oldest
server --metrics                metrics                  page_has_counters_histograms_catalog_and_caches
server --no-sandbox             confined                 server_reports_that_it_is_not_confined
server --no-tcp-nodelay         options                  watch_of_the_server_overrides_no_watch
server --no-tls                 caching                  server_trusts_its_index_without_checksum_flag
server --no-watch               watching                 s10_a_server_without_watch_is_an_error
server --only                   server                   only_and_compression_options_apply
server --proxy-protocol         proxy_protocol           connections_of_listed_proxies_need_a_header_and_are_logged_by_its_address
server --rate-limit             failures                 s15_rate_limited_requests_are_retried_then_exit_7
server --rate-limit-window      failures                 s15_rate_limited_requests_are_retried_then_exit_7
server --recursive              recursive                w9_a_tree_is_shared_and_made_again_by_the_client
server --require-tls           tls                      t2_client_that_uses_the_wrong_transport_is_pointed_to_the_flag_or_the_scheme
server --store-cache-size       object_store             s12_cached_images_of_an_object_store_are_sent_when_it_has_them_no_longer
server -v                       left_out                 a_folder_of_year_folders_is_told_how_to_be_shared
server --version                options                  help_has_groups_defaults_and_examples
server --watch                  options                  watch_of_the_server_overrides_no_watch
server --watch-interval         recursive                w9_changes_are_noticed_with_events_with_an_interval_and_confined
";

/// The program, its exit code, arguments that it rejects, and a part of the message. An option without a value rejects
/// any value.
const REJECTED: &str = "
client 2 --addr :1
client 2 --addr host:99999 : invalid port
client 2 --addr= : missing host
client 2 --addr jtps://h --plain : jtps://h:8443
client 2 --backup-dir b --list
client 2 --backup-dir output
client 2 --cache-dir x
client 5 --cert missing.pem --tls
client 2 --check --batch : cannot be used with
client 2 --check --dry-run : cannot be used with
client 2 --check --list : cannot be used with
client 2 --check --watch : cannot be used with
client 2 --connect-timeout -1
client 2 --dry-run --list : cannot be used with
client 2 --dry-run --watch : cannot be used with
client 2 --exclude [é] : ASCII
client 2 --exclude {a : invalid pattern
client 2 --get 0123456789abcdeg : 16 hexadecimal digits
client 2 --get 123 : 16 hexadecimal digits
client 5 --identity images
client 2 --identity a --plain
client 2 --include : a value is required
client 2 --include [ : invalid pattern
client 2 --include= : empty
client 2 --keep-existing --check
client 2 --limit-rate 1000 : at least 16KiB
client 2 --list --batch
client 2 --list --long --json
client 2 --list --watch
client 2 --long : --list
client 2 --max-delete -1 --mirror
client 2 --max-delete 101% --mirror
client 2 --max-delete 5 : --mirror
client 2 --max-delete 5.5% --mirror
client 2 --max-delete= --mirror
client 2 --max-image-size 4GiB
client 2 --max-image-size big
client 2 --max-time soon
client 2 --max-total-size big
client 2 --mirror --check
client 2 --mirror --get 0123456789abcdef
client 2 --mirror --keep-existing
client 2 --mirror --list
client 2 --nonsense
client 8 --out images/a.png
client 2 --parallel 0
client 2 --parallel 33
client 2 --pin sha256:00
client 2 --quiet --verbose
client 2 --repeat 0
client 2 --retries -1
client 5 --server-name no/name --tls
client 2 --show-identity
client 2 --sort date --list : possible values: name, size, type
client 2 --sort name : --list
client 2 --timeout x
client 2 --type png, : possible values
client 2 --type tiff : possible values: png, jpeg, webp, bmp, gif, other
client 2 ./photos : --out
client 2 a jtps://b --plain : jtps://b:8443
client 2 h --addr h : --addr
client 2 h/photos : without a path
client 2 h:70000 : invalid port
client 2 h?list : without a path
client 2 http://h : unsupported scheme http://
client 2 https://h : jtps://
client 2 jtp://h:1/?a : has no path and no query; use jtp://h:1
client 2 jtps:// : missing host
client 2 jtps://h --plain : --no-tls
client 2 jtps://h --tls --no-tls : jtps://h:8443
client 2 jtps://h images : images is a folder
client 2 jtps://h/photos : has no path and no query; use jtps://h
client 2 me@h : expected HOST:PORT
server 2 --allow-plain --require-tls
server 2 --bind host:x
server 2 --cache-dir
server 2 --cache-size big
server 2 --cert a
server 1 --cert images --key key.pem
server 2 --clients a --allow-plain
server 2 --clients a --no-tls
server 1 --clients missing.txt
server 2 --compression-threshold 1.5
server 2 --compression-threshold nan
server 2 --drain-timeout later
server 2 --exclude [ : invalid pattern
server 2 --exclude [é] : ASCII characters only
server 2 --images
server 1 --images missing
server 2 --include
server 2 --include {a : invalid pattern
server 2 --include= : the pattern is empty
server 2 --keep-alive-timeout soon
server 2 --key a
server 1 --key images --cert cert.pem
server 2 --log-format xml
server 2 --max-connections x
server 2 --max-connections-per-ip -1
server 2 --max-handshakes many
server 2 --max-watchers 1.5
server 2 --metrics 127.0.0.1
server 2 --metrics 9184
server 2 --metrics localhost
server 2 --no-tls --require-tls
server 2 --nonsense
server 2 --only
server 2 --proxy-protocol 0.0.0.0/0 : every client
server 2 --proxy-protocol 10.0.0.0/33 : 10.0.0.1
server 2 --proxy-protocol 10.0.0.1, : 10.0.0.1
server 2 --proxy-protocol ::/0 : every client
server 2 --proxy-protocol ::ffff:10.0.0.0/104 : IPv4
server 2 --proxy-protocol= : 10.0.0.1
server 2 --rate-limit many
server 2 --rate-limit-window -1
server 2 --store-cache-size big
server 2 --watch-interval often
server 2 stray
";

fn programs() -> [Command; 2] {
    [ClientArgs::command(), ServerArgs::command()].map(|mut command| {
        // Adds `--help` and `--version`.
        command.build();
        command
    })
}

/// The names of an option on the command line.
fn names(arg: &Arg) -> Vec<String> {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let mut names: Vec<String> = long.into_iter().chain(short).collect();
    if names.is_empty() {
        names.push(arg.get_value_names().unwrap()[0].to_string());
    }
    names
}

/// The text of a function of a test file, which must be a test.
fn test_function<'a>(text: &'a str, name: &str) -> &'a str {
    let start = text
        .find(&format!("\n#[test]\nfn {name}() {{\n"))
        .unwrap_or_else(|| panic!("no test {name}"));
    let body = &text[start..];
    &body[..body.find("\n}\n").unwrap()]
}

#[test]
fn each_option_has_a_test_that_uses_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tested = BTreeMap::new();
    for row in TESTS.trim().lines() {
        let [program, option, file, test] = row.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let path = match file.starts_with("tests/") {
            true => root.join("..").join(file),
            false => root.join("tests/programs").join(file),
        };
        let text = fs::read_to_string(path.with_extension("rs")).expect(row);
        let body = test_function(&text, test);
        let mut words = body.split([' ', '"', '=']);
        let is_used = option == "ADDR" || words.any(|word| word == option);
        assert!(is_used, "{test} does not use {option}");
        let replaced = tested.insert((program.to_owned(), option.to_owned()), test);
        assert!(replaced.is_none(), "{row}");
    }
    for program in programs() {
        for arg in program.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let row = |name: &String| tested.remove(&(program.get_name().to_owned(), name.clone()));
            let rows = names(arg).iter().filter_map(row).count();
            assert_eq!(rows, 1, "{} {:?}", program.get_name(), names(arg));
        }
    }
    assert!(tested.is_empty(), "no options: {tested:?}");
}

#[test]
fn each_option_rejects_a_bad_value_and_changes_nothing() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let run = |program: &str, args: &[&str], code: i32, message: &str| {
        let words = args.iter().take(2).flat_map(|arg| arg.split('='));
        let mut words = words.filter(|word| !word.is_empty());
        let is_client = program == "client";
        let names_server = args[0].starts_with("--addr") || !args[0].starts_with('-');
        let args = match is_client {
            true if names_server => args.to_vec(),
            true => [args, &["--addr", &server.address]].concat(),
            false if args[0] == "--bind" => args.to_vec(),
            false => [&["--bind", "127.0.0.1:0"], args].concat(),
        };
        let path = if is_client { CLIENT } else { SERVER };
        // A server that accepts the value would not exit.
        let output = Process::start(dir.command(path, &args)).wait();
        output.assert_exit(code);
        // Errors are events, too.
        let is_json = args.contains(&"--json");
        assert!(is_json || output.out.is_empty(), "{output:?}");
        let error = "error: ";
        assert!(
            output.err.starts_with(error) || output.err.contains("ERROR"),
            "{output:?}"
        );
        let is_named = words.any(|word| output.err.contains(word));
        assert!(
            is_named && output.err.contains(message),
            "{message}: {output:?}"
        );
        output.assert_not_in_err("panicked");
    };
    let mut rejected: Vec<(&str, &str)> = Vec::new();
    for row in REJECTED.trim().lines() {
        let (command, message) = row.split_once(" : ").unwrap_or((row, ""));
        let words: Vec<&str> = command.split(' ').collect();
        run(words[0], &words[2..], words[1].parse().unwrap(), message);
        rejected.push((words[0], words[2]));
    }
    for program in programs() {
        let name = program.get_name();
        for arg in program.get_arguments().filter(|arg| !arg.is_hide_set()) {
            if !arg.get_action().takes_values() {
                run(name, &[&format!("{}=x", names(arg)[0])], 2, "");
            } else if arg.get_long().is_some() {
                let option = &*names(arg)[0];
                assert!(rejected.contains(&(name, option)), "{name} {option}");
            }
        }
    }
    assert_eq!(dir.names("images"), ["a.png", "b.jpg", "c.bmp"]);
    assert!(!dir.path("output").exists());
}

#[test]
fn help_has_groups_defaults_and_examples() {
    let dir = TestDir::new();
    let both = ["Examples:", "Exit codes", "[default: "];
    for (program, words) in [
        (SERVER, ["TLS:", "Limits:", "0.0.0.0:8443]", "images-dir"]),
        (
            CLIENT,
            ["Network:", "What to do:", "127.0.0.1:8443]", "delta"],
        ),
    ] {
        for flag in ["--help", "-h"] {
            let output = dir.run(program, &[flag]);
            output.assert_exit(0);
            // Ignores line breaks.
            let help: Vec<_> = output.out.split_whitespace().collect();
            let help = help.join(" ");
            for word in words.iter().chain(&both) {
                assert!(help.contains(word), "{word}: {}", output.out);
            }
        }
        dir.run(program, "--version")
            .assert_exit(0)
            .assert_in_out(env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn cache_size_0_writes_no_compressed_images() {
    let dir = TestDir::with_images();
    for (size, files) in [("0", 0), ("1MiB", 1)] {
        let cache = format!("cache-{size}");
        let server = dir.serve(&["--no-tls", "--cache-size", size, "--cache-dir", &cache]);
        dir.wait_for_compressed_bmp(&server);
        dir.fetch(&server, &["--out", size]).assert_no_error();
        assert_eq!(dir.files(size), dir.files("images"));
        let forms = dir.names(&format!("{cache}/forms"));
        let forms = forms.iter().filter(|name| name.ends_with(".form1"));
        assert_eq!(forms.count(), files, "{size}");
    }
}

#[test]
fn keep_alive_timeout_closes_an_idle_connection() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls --keep-alive-timeout 50ms");
    let mut idle = TcpStream::connect(&server.address).unwrap();
    // Less than the default of 30 s.
    idle.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // LIST with keep-alive.
    idle.write_all(&[1, 1]).unwrap();
    let mut response = Vec::new();
    idle.read_to_end(&mut response).expect("the server closes");
    assert!(response.starts_with(b"JTPL"));
    let args = ["--keep-alive", "--repeat", "2"];
    dir.fetch(&server, &args).assert_no_error();
}

#[test]
fn watch_of_the_server_overrides_no_watch() {
    let dir = TestDir::with_images();
    let args = ["--no-tls", "--no-watch", "--watch", "--no-tcp-nodelay"];
    let server = dir.serve(&args);
    let client = dir.watch(&server.address, "");
    dir.add("d.png", &noise(300, 4));
    client.out.wait_for("fetched d.png");
}
