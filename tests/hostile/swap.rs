//! Another user who can rename the images folder and what is beside it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::process::{WorkDir, wait_until};

/// Whether the server lists no images.
fn lists_nothing(address: SocketAddr) -> bool {
    let mut peer = Peer::connect(address);
    peer.send([LIST, 0]);
    peer.read(5) == head(b"JTPL", 0)
}

#[test]
fn a_folder_or_link_in_place_of_the_images_folder_is_not_published_and_is_logged_once() {
    let workdir = WorkDir::of(&[]);
    workdir.add("public.png", b"public");
    let private = workdir.path().join("private");
    fs::create_dir(&private).unwrap();
    fs::write(private.join("private.png"), b"private").unwrap();
    fs::set_permissions(workdir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let server = workdir.server("--no-tls");
    let log = || fs::read_to_string(workdir.path().join("server.log")).unwrap();
    let errors = || log().matches("cannot read the images folder").count();
    let swap_back = |n| {
        fs::rename(workdir.path().join("before"), workdir.images()).unwrap();
        wait_until("the images are listed again", || {
            !lists_nothing(server.addr())
        });
        assert_eq!(errors(), n, "{}", log());
    };

    fs::rename(workdir.images(), workdir.path().join("before")).unwrap();
    fs::rename(&private, workdir.images()).unwrap();
    wait_until("nothing is listed", || lists_nothing(server.addr()));
    // The reason is looked up again each second: between the two renames there was another one.
    wait_until("the log says why", || {
        log().contains("may have been put there by another user")
    });
    fs::rename(workdir.images(), &private).unwrap();
    swap_back(1);

    fs::rename(workdir.images(), workdir.path().join("before")).unwrap();
    symlink("private", workdir.images()).unwrap();
    wait_until("nothing is listed", || lists_nothing(server.addr()));
    wait_until("the log says why", || log().contains("symbolic link"));
    fs::remove_file(workdir.images()).unwrap();
    swap_back(2);
}
