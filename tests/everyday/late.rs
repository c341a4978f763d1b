//! R8 (c): images that enter the catalog after the LIST and before the request for images.

use std::io::Read;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
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

#[test]
fn r8_an_image_added_after_the_list_is_stored_under_its_name() {
    for args in [
        &[][..],
        &["--batch"],
        &["-k"],
        &["-k", "--batch"],
        &["-p", "3"],
        &["-p", "3", "--batch"],
    ] {
        let workdir = Arc::new(WorkDir::of(&[]));
        for n in 0..5 {
            workdir.add(&format!("b{n}.jpg"), &picture(n));
        }
        let server = workdir.server("--no-tls");
        let (shared, address) = (Arc::clone(&workdir), server.addr());
        let proxy = before_images_are_requested(server.addr(), move || {
            shared.add("a-new.jpg", &picture(70));
            shared.add("c-new.jpg", &picture(71));
            let images = files(&shared.images());
            wait_until("the server lists the new images", || {
                listed(address) == images
            });
        });
        let output = run(&workdir, proxy, args);
        let what = format!("{args:?}: {output:?}");
        assert_eq!(output.code, Some(0), "{what}");
        let (output, images) = (files(&workdir.output()), files(&workdir.images()));
        assert_eq!(output, images, "{what}");
        run(&workdir, server.addr(), "--batch").assert_exit(0);
        assert_eq!(files(&workdir.output()), images);
        assert_nothing_to_do(&workdir, &server);
    }
}

#[test]
fn r8_images_renamed_replaced_and_removed_after_the_list_keep_no_other_from_coming() {
    for args in [
        &[][..],
        &["--batch"],
        &["-k"],
        &["-p", "3"],
        &["--batch", "-k"],
    ] {
        let workdir = Arc::new(WorkDir::of(&[]));
        for n in 0..8 {
            workdir.add(&format!("{n}.jpg"), &picture(n));
        }
        let server = workdir.server("--no-tls");
        let (shared, address) = (Arc::clone(&workdir), server.addr());
        let proxy = before_images_are_requested(server.addr(), move || {
            rename(&shared, "1.jpg", "renamed.jpg");
            shared.add("1.jpg", &picture(80));
            shared.add("2.jpg", &picture(81));
            fs::remove_file(shared.images().join("0.jpg")).unwrap();
            rotate(&shared, &["4.jpg", "5.jpg"]);
            let images = files(&shared.images());
            wait_until("the server lists its folder", || listed(address) == images);
        });
        let output = run(&workdir, proxy, args);
        let what = format!("{args:?}: {output:?}");
        assert_eq!(output.code, Some(0), "{what}");
        let images = files(&workdir.images());
        let listed_at_first: BTreeMap<_, _> = [1, 3, 4, 5, 6, 7]
            .map(|n| (n.to_string(), id_of(&picture(n))))
            .into();
        let absent = missing(&listed_at_first, &files(&workdir.output()));
        assert_eq!(absent, [""; 0], "{what}");
        run(&workdir, server.addr(), "--batch").assert_exit(0);
        let wrong = not_exactly_once(&images, &files(&workdir.output()));
        assert!(wrong.is_empty(), "{wrong:#?}: {what}");
        assert_nothing_to_do(&workdir, &server);
    }
}

#[test]
fn r8_an_image_stored_under_its_id_gets_its_name_with_batch() {
    let workdir = WorkDir::of(&[]);
    for (n, name) in ["a.jpg", "b.png", "c.webp"].into_iter().enumerate() {
        workdir.add(name, &picture(n as u64));
    }
    fs::create_dir(workdir.output()).unwrap();
    for (name, id) in files(&workdir.images()) {
        let extension = name.rsplit_once('.').unwrap().1;
        let own = workdir.output().join(format!("{id:016x}.{extension}"));
        fs::copy(workdir.images().join(&name), own).unwrap();
    }
    let server = workdir.server("--no-tls");
    run(&workdir, server.addr(), "--batch").assert_fetched(0, 3);
    assert_eq!(files(&workdir.output()), files(&workdir.images()));
    assert_nothing_to_do(&workdir, &server);
}

#[test]
fn r8_an_image_stored_under_its_id_gets_its_name_once_another_has_left_it() {
    let workdir = WorkDir::of(&[]);
    workdir.add("a.jpg", &picture(1));
    workdir.add("b.jpg", &picture(2));
    fs::create_dir(workdir.output()).unwrap();
    // The listed name of one image is that of another one's file.
    let own = format!("{:016x}.jpg", id_of(&picture(1)));
    fs::write(workdir.output().join(own), picture(1)).unwrap();
    fs::write(workdir.output().join("a.jpg"), picture(2)).unwrap();
    let server = workdir.server("--no-tls");
    run(&workdir, server.addr(), "--batch").assert_fetched(0, 2);
    assert_complete(&workdir);
    assert_nothing_to_do(&workdir, &server);
}

/// A server whose LIST never names the last of its images, which it sends all the same.
fn server_with_an_unlisted_image(images: Vec<TestImage>, requests: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |mut stream: TcpStream| {
        let mut buffer = vec![0; 64 * 1024];
        // Another request may follow in the same write.
        while stream.read_exact(&mut buffer[..2]).is_ok() {
            let count = match buffer[0] {
                LIST | LIST_AND_GET => 2,
                _ => 2 + stream.read(&mut buffer[2..]).unwrap(),
            };
            let request = &buffer[..count];
            let response = match request[0] {
                LIST => list_of(&images[..images.len() - 1]),
                LIST_AND_GET => {
                    requests.fetch_add(1, Ordering::SeqCst);
                    images_of(b"JTPG", &images)
                }
                BATCH => {
                    requests.fetch_add(1, Ordering::SeqCst);
                    // The test's lists of IDs are short: the count is one byte.
                    let have = &request[3..];
                    let has =
                        |image: &&TestImage| !have.chunks(8).any(|id| id == image.id.to_be_bytes());
                    let missing: Vec<TestImage> = images.iter().filter(has).cloned().collect();
                    images_of(b"JTPB", &missing)
                }
                GET => {
                    let ids = request[3..].chunks(8);
                    let of = |id: &[u8]| images.iter().find(|image| id == image.id.to_be_bytes());
                    data_of(&ids.filter_map(of).collect::<Vec<_>>())
                }
                other => panic!("request {other}"),
            };
            if stream.write_all(&response).is_err() || request[1] & KEEP == 0 {
                return;
            }
        }
    };
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

#[test]
fn r8_an_image_that_no_list_names_is_not_stored() {
    let images: Vec<TestImage> = (0..5)
        .map(|n| TestImage::new(&format!("{n}.png"), picture(n)))
        .collect();
    for args in [&[][..], &["--batch"], &["-k"], &["--batch", "-k"]] {
        let workdir = WorkDir::of(&[]);
        let requests = Arc::new(AtomicUsize::new(0));
        let address = server_with_an_unlisted_image(images.clone(), Arc::clone(&requests));
        let output = run(&workdir, address, args);
        output.assert_exit(0);
        let listed: BTreeMap<_, _> = images[..4].iter().map(|i| (i.name.clone(), i.id)).collect();
        assert_eq!(files(&workdir.output()), listed, "{args:?}: {output:?}");
        assert_eq!(temporaries(&workdir.output()), [""; 0], "{args:?}");
        assert!(requests.load(Ordering::SeqCst) <= 2, "{args:?}: {output:?}");
        // The next run with --batch leaves the folder as it is.
        let output = run(&workdir, address, "--batch");
        output.assert_exit(0);
        assert_eq!(files(&workdir.output()), listed, "{args:?}: {output:?}");
    }
}
