//! Several servers of one folder.

use rustix::process::Signal;

use crate::recursive::write;
use crate::support::{CLIENT, Folder as _, Process, SERVER, TestDir, key_of, tree, wait_until};

#[test]
fn servers_of_one_folder_can_start_at_once_and_list_the_same() {
    const COUNT: usize = 4;
    let dir = TestDir::new();
    for number in 0..40 {
        write(&dir, &format!("{}/{number}.bmp", number % 4), number + 1);
    }
    // They create one certificate, one cache folder and one index.
    let command = || dir.command(SERVER, "--bind 127.0.0.1:0 --recursive");
    let started = [(); COUNT].map(|()| Process::start(command()));
    let mut servers = Vec::from(started.map(Process::with_address));
    let keys: Vec<_> = servers.iter().map(key_of).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let list = |server: &Process| dir.fetch(server, &format!("--pin {} --list", keys[0])).out;
    for (number, server) in servers.iter().enumerate() {
        let out = format!("out{number}");
        dir.fetch(server, &format!("--pin {} --out {out}", keys[0]))
            .assert_no_error();
        assert_eq!(tree(&dir.path(&out)), tree(&dir.path("images")));
    }
    dir.remove("images/0/0.bmp");
    write(&dir, "4/new.bmp", 100);
    for server in &servers {
        wait_until("the change is listed", || {
            let list = list(server);
            list.contains("4/new.bmp") && !list.contains(" 0/0.bmp")
        });
    }
    // The first one does not answer: the catalog of the second one decides.
    let first = servers.remove(0);
    let address = first.address.clone();
    first.signal(Signal::KILL);
    first.wait();
    let args = [
        &*format!("jtps://{address}"),
        &*format!("jtps://{}", servers[0].address),
        "--pin",
        &keys[0],
        "--mirror",
        "--out",
        "out0",
    ];
    dir.run(CLIENT, &args)
        .assert_exit(0)
        .assert_summary("fetched 1 image (1.95 KiB); 39 already there; 0 failed; 1 deleted");
    // What they wrote together is used at the next start.
    for server in servers {
        server.stop().assert_exit(0);
    }
    let server = dir.serve("--recursive");
    assert_eq!(key_of(&server), keys[0]);
    assert_eq!(list(&server).lines().count(), 40);
}
