//! R8 (c): images that enter the catalog after the LIST and before the request for images.

use std::io::Read;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use super::*;

/// A proxy that does something before it forwards the first request for images.
fn before_images_are_requested(
    upstream: SocketAddr,
    action: impl FnOnce() + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    type Action = Box<dyn FnOnce() + Send>;
    let action: Arc<Mutex<Option<Action>>> = Arc::new(Mutex::new(Some(Box::new(action))));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(upstream) else {
                return;
            };
            let (mut from_server, mut to_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            let (answered, answer) = channel();
            thread::spawn(move || {
                // A response is computed from the catalog of the time when it begins. // S3
                let mut first = [0; 1];
                if from_server.read_exact(&mut first).is_ok() {
                    let _ = answered.send(());
                    let _ = to_client.write_all(&first);
                }
                let _ = std::io::copy(&mut from_server, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            let action = Arc::clone(&action);
            thread::spawn(move || forward(client, server, &answer, &action));
        }
    });
    return address;

    fn forward(
        mut client: TcpStream,
        mut server: TcpStream,
        answer: &Receiver<()>,
        action: &Mutex<Option<Action>>,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            // The client sends a request in one write, and behind a LIST perhaps another one.
            let mut count = client.read(&mut buffer).unwrap_or(0);
            if count == 0 {
                let _ = server.shutdown(Shutdown::Write);
                return;
            }
            if buffer[0] == LIST && count > 2 {
                if server.write_all(&buffer[..2]).is_err() || answer.recv().is_err() {
                    return;
                }
                buffer.copy_within(2..count, 0);
                count -= 2;
            }
            if matches!(buffer[0], GET | BATCH | LIST_AND_GET) {
                let action = action.lock().unwrap().take();
                action.into_iter().for_each(|action| action());
            }
            if server.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    }
}

/// Runs a client while the server's folder changes between the LIST and the request for images.
fn with_change_after_the_list(
    workdir: &Arc<WorkDir>,
    server: &Process,
    args: &str,
    change: impl FnOnce(&WorkDir) + Send + 'static,
) -> Output {
    let (shared, address) = (Arc::clone(workdir), server.addr());
    let proxy = before_images_are_requested(address, move || {
        change(&shared);
        let images = files(&shared.images());
        wait_until("the server lists its folder", || listed(address) == images);
    });
    let output = run(workdir, proxy, args);
    output.assert_exit(0);
    output
}

/// A folder with images `0.jpg` to `7.jpg`.
fn library() -> Arc<WorkDir> {
    let workdir = WorkDir::of(&[]);
    for n in 0..8 {
        workdir.add(&format!("{n}.jpg"), &picture(n));
    }
    Arc::new(workdir)
}

#[test]
fn r8_an_image_added_after_the_list_has_its_name_or_comes_with_the_next_run() {
    for args in ["", "--batch", "-k", "-k --batch", "-p 3", "-p 3 --batch"] {
        let workdir = library();
        let server = workdir.server("--no-tls");
        let output = with_change_after_the_list(&workdir, &server, args, |workdir| {
            workdir.add("a-new.jpg", &picture(70));
            workdir.add("3-new.jpg", &picture(71));
        });
        let what = format!("{args:?}: {output:?}");
        let (output, images) = (files(&workdir.output()), files(&workdir.images()));
        // Over several connections only listed images are requested.
        match args.contains("-p") {
            true => assert!(
                output.keys().all(|name| images.contains_key(name)),
                "{what}"
            ),
            false => assert_eq!(output, images, "{what}"),
        }
        assert!(output.len() >= 8, "{what}");
        run(&workdir, server.addr(), "--batch").assert_exit(0);
        assert_eq!(files(&workdir.output()), images);
        assert_nothing_to_do(&workdir, &server);
    }
}

#[test]
fn r8_images_renamed_replaced_and_removed_after_the_list_keep_no_other_from_coming() {
    for args in ["", "--batch", "-k", "-p 3", "--batch -k"] {
        let workdir = library();
        let server = workdir.server("--no-tls");
        let output = with_change_after_the_list(&workdir, &server, args, |workdir| {
            rename(workdir, "1.jpg", "renamed.jpg");
            workdir.add("1.jpg", &picture(80));
            workdir.add("2.jpg", &picture(81));
            fs::remove_file(workdir.images().join("0.jpg")).unwrap();
            rotate(workdir, &["4.jpg", "5.jpg"]);
        });
        let what = format!("{args:?}: {output:?}");
        let listed_at_first: BTreeMap<_, _> = [1, 3, 4, 5, 6, 7]
            .map(|n| (n.to_string(), id_of(&picture(n))))
            .into();
        let absent = missing(&listed_at_first, &files(&workdir.output()));
        assert_eq!(absent, [""; 0], "{what}");
        run(&workdir, server.addr(), "--batch").assert_exit(0);
        assert_complete(&workdir);
        assert_nothing_to_do(&workdir, &server);
    }
}
