//! Confines the process: from then on it can read the images and its own files and write to its cache, and nothing else.

#[cfg(target_os = "linux")]
mod system;

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use crate::cache;
use crate::server_args::ServerArgs;

/// What the server needs after its start.
#[derive(Debug, Default)]
struct Needs {
    /// Folders whose files and sub-folders are read.
    read_folders: BTreeSet<PathBuf>,
    /// Folders of which single files are read again at SIGHUP.
    read_files: BTreeSet<PathBuf>,
    write_folders: BTreeSet<PathBuf>,
    /// Files of these that cannot be read any more once another file has taken their place.
    fixed_files: BTreeSet<PathBuf>,
    /// Whether a folder that takes the place of the images folder can be read.
    is_replaceable: bool,
    /// Links in the path of the images that may be changed to lead to a folder that cannot be read.
    fixed_links: BTreeSet<PathBuf>,
    /// Whether connections to other hosts are made: to an object store.
    connects: bool,
}

/// What the client of an object store reads: settings for names of hosts, libraries that look them up, and root certificates.
/// `/etc` as a whole, since `/etc/resolv.conf` is replaced while the server runs.
const SYSTEM_FOLDERS: &[&str] = &[
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/var/lib/ca-certificates",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/systemd/resolve",
];

/// Variables of the environment that name files with credentials or root certificates.
const CREDENTIAL_FILES: &[&str] = &[
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "SSL_CERT_FILE",
];

/// Variables that name files with profiles of AWS, and where these files are below the home folder by default. They are
/// read once.
const PROFILES: &[(&str, &str)] = &[
    ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
    ("AWS_CONFIG_FILE", ".aws/config"),
];

/// Where `gcloud` keeps the credentials of a user, below the home folder.
const GCLOUD_CREDENTIALS: &str = ".config/gcloud/application_default_credentials.json";

/// Confines the calling thread, the threads that it starts later and, if the kernel can do that, all others. Logs what
/// is confined, or why nothing is.
///
/// The images folder can be replaced while the server runs, and a kernel rule belongs to one folder, not to a path.
/// Therefore the parent of the images folder can be read as well, unless that is the root or contains home folders: keys
/// and passwords of the user are there.
pub(super) fn confine(args: &ServerArgs) {
    if args.no_sandbox {
        tracing::warn!("not confined (--no-sandbox): the server can access all files of its user");
        return;
    }
    let needs = Needs::of(args);
    match system::confine(&needs) {
        Ok(confined) => {
            tracing::info!(
                "confined by {confined}: reads below {}; writes below {}",
                list(real_paths(needs.read_folders.union(&needs.read_files)).iter()),
                list(real_paths(&needs.write_folders).iter()),
            );
            if !needs.is_replaceable {
                tracing::info!(
                    "the folder above {} is not readable: restart the server after another folder has taken its place",
                    args.images.display()
                );
            }
            if !needs.fixed_links.is_empty() {
                tracing::info!(
                    "restart the server after {} has been changed to lead to another folder: that may not be readable",
                    list(needs.fixed_links.iter())
                );
            }
            // An editor that replaces the list of clients would otherwise keep removed clients admitted.
            if !needs.fixed_files.is_empty() {
                tracing::warn!(
                    "SIGHUP cannot read these files after another file has taken their place, as most editors do it: {}; \
                     move them into a folder of their own, or restart the server after a change",
                    list(needs.fixed_files.iter())
                );
            }
        }
        Err(reason) => {
            tracing::warn!("not confined: {reason}; the server can access all files of its user");
        }
    }
}

/// Each folder once: some are known by two paths.
fn real_paths<'a>(folders: impl IntoIterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    folders.into_iter().map(real).collect()
}

fn list<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> String {
    let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    if paths.is_empty() {
        "nothing".to_owned()
    } else {
        paths.join(", ")
    }
}

impl Needs {
    fn of(args: &ServerArgs) -> Needs {
        let mut needs = Needs {
            is_replaceable: true,
            ..Needs::default()
        };
        match args.images.to_str().and_then(|text| text.split_once("://")) {
            Some(("file", folder)) => {
                // The catalog is written beside the images. A rule needs a folder that exists.
                let catalog = Path::new(folder).join(".jtp");
                let _ = std::fs::create_dir(&catalog);
                needs.read_folders.extend(both_paths(Path::new(folder)));
                needs.write_folders.extend(both_paths(&catalog));
            }
            Some(_) => needs.add_object_store(),
            None => needs.add_folder(&args.images),
        }
        if !args.no_tls {
            needs.read_again(&args.cert());
            needs.read_again(&args.key());
            if let Some(clients) = &args.clients {
                needs.read_again(clients);
            }
        }
        if let Some(folder) = cache::folder(args) {
            needs.write_folders.extend(folder.canonicalize().ok());
        }
        needs
    }

    fn add_folder(&mut self, images: &Path) {
        for path in both_paths(images) {
            match narrow_parent(&path) {
                Some(parent) => drop(self.read_folders.insert(parent)),
                None => self.is_replaceable = false,
            }
            self.read_folders.insert(path);
        }
        self.fixed_links = links_to(images)
            .filter(|link| !self.reads_siblings(link))
            .collect();
    }

    /// Whether a link leads to a folder beside it, and the others beside it can be read.
    fn reads_siblings(&self, link: &Path) -> bool {
        let target = link.canonicalize().ok();
        let beside = link.parent().and_then(|folder| folder.canonicalize().ok());
        beside.is_some_and(|beside| {
            target.is_some_and(|target| target.parent() == Some(&beside))
                && real_paths(&self.read_folders).contains(&beside)
        })
    }

    fn add_object_store(&mut self) {
        self.connects = true;
        self.read_folders
            .extend(SYSTEM_FOLDERS.iter().map(PathBuf::from));
        let certificates = env::var_os("SSL_CERT_DIR");
        let folders = certificates.iter().flat_map(env::split_paths);
        self.read_folders
            .extend(folders.flat_map(|folder| both_paths(&folder)));
        let home = env::var_os("HOME").map(PathBuf::from);
        for (variable, default) in PROFILES {
            let named = env::var_os(variable).map(PathBuf::from);
            let file = named.or_else(|| home.as_ref().map(|home| home.join(default)));
            self.read_files
                .extend(file.iter().flat_map(|file| both_paths(file)));
        }
        let named = CREDENTIAL_FILES.iter().filter_map(env::var_os);
        let home = home.map(|home| home.join(GCLOUD_CREDENTIALS));
        for file in named.map(PathBuf::from).chain(home) {
            for path in both_paths(&file) {
                // A token is replaced by another one of the same name. A home folder is not made readable for that.
                self.read_files.insert(narrow_parent(&path).unwrap_or(path));
            }
        }
    }

    /// A file that is read again at SIGHUP. It may have been replaced then, also by a link to another folder that it led
    /// to before.
    fn read_again(&mut self, file: &Path) {
        for path in both_paths(file) {
            match narrow_parent(&path) {
                Some(parent) => drop(self.read_files.insert(parent)),
                None => {
                    self.fixed_files.insert(path.clone());
                    self.read_files.insert(path);
                }
            }
        }
    }
}

/// The absolute path itself, and where its links lead.
fn both_paths(path: &Path) -> BTreeSet<PathBuf> {
    let absolute = std::path::absolute(path);
    let canonical = path.canonicalize();
    [absolute, canonical].into_iter().flatten().collect()
}

/// The links in a path, except for those of the system, such as `/home` to `/var/home`.
fn links_to(path: &Path) -> impl Iterator<Item = PathBuf> {
    let absolute = std::path::absolute(path).unwrap_or_default();
    let paths: Vec<PathBuf> = absolute.ancestors().map(Path::to_owned).collect();
    paths
        .into_iter()
        .filter(|path| path.is_symlink() && path.parent() != Some(Path::new("/")))
}

/// The parent, unless it is the root or contains home folders.
fn narrow_parent(path: &Path) -> Option<PathBuf> {
    let parent = path.parent()?;
    // The rule belongs to the folder that the links in the path lead to.
    let resolved = parent.canonicalize();
    let resolved = resolved.as_deref().unwrap_or(parent);
    let home = env::var_os("HOME").map(PathBuf::from);
    let home = home.map(|home| home.canonicalize().unwrap_or(home));
    let is_wide = resolved.parent().is_none()
        || resolved == Path::new("/home")
        || home.is_some_and(|home| home.starts_with(resolved));
    (!is_wide).then(|| parent.to_owned())
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn confine(_: &super::Needs) -> Result<String, String> {
        Err("this system has no Landlock".to_owned())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use clap::Parser;

    use super::*;

    /// Set for the process that confines itself, to the folder of the test.
    const CONFINED_IN: &str = "JTP_TEST_CONFINED_IN";

    fn denied<T>(what: &str, result: std::io::Result<T>) {
        match result {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => panic!("{what}: another error: {error}"),
            Ok(_) => panic!("{what}: allowed"),
        }
    }

    /// Confinement is for good, so another process is confined: this test alone, run again.
    #[test]
    fn a_confined_process_reaches_its_own_folders_and_nothing_else() {
        if let Some(folder) = std::env::var_os(CONFINED_IN) {
            return confined(Path::new(&folder));
        }
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().canonicalize().unwrap();
        for sub in ["library/images", "library/other", "tls", "cache", "secret"] {
            fs::create_dir_all(folder.join(sub)).unwrap();
        }
        for file in [
            "library/images/a.png",
            "tls/cert.pem",
            "tls/key.pem",
            "secret/id",
        ] {
            fs::write(folder.join(file), "x").unwrap();
        }
        run_again(
            "a_confined_process_reaches_its_own_folders_and_nothing_else",
            &folder,
        );
    }

    /// Runs one test in a process of its own, with the folder as its home folder.
    fn run_again(test: &str, folder: &Path) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("server::confine::tests::{test}")])
            .arg("--nocapture")
            .env(CONFINED_IN, folder)
            .env("HOME", folder)
            .env_remove("AWS_SHARED_CREDENTIALS_FILE")
            .env_remove("AWS_CONFIG_FILE")
            .env("GOOGLE_APPLICATION_CREDENTIALS", folder.join("key.json"))
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", folder.join("tokens/token"))
            .env("SSL_CERT_DIR", folder.join("certs"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && out.contains("1 passed"),
            "{out}{text}"
        );
        print!("{text}");
    }

    /// Confines this process as a server with these arguments. `false` if this kernel cannot do it.
    fn confine_as(args: &[&str]) -> bool {
        let args = ServerArgs::parse_from(["server"].iter().chain(args));
        match system::confine(&Needs::of(&args)) {
            Ok(_) => true,
            Err(reason) => {
                assert!(reason.contains("Landlock"), "{reason}");
                eprintln!("nothing is tested: {reason}");
                false
            }
        }
    }

    #[test]
    fn a_server_of_an_object_store_reads_credentials_and_not_the_home_folder() {
        if let Some(folder) = std::env::var_os(CONFINED_IN) {
            let path = |path: &str| Path::new(&folder).join(path);
            if !confine_as(&["--images", "s3://bucket/prefix", "--no-tls"]) {
                return;
            }
            fs::read(path("key.json")).unwrap();
            fs::read(path(GCLOUD_CREDENTIALS)).unwrap();
            fs::read(path(".aws/credentials")).unwrap();
            denied("another file of AWS", fs::read(path(".aws/sso/cache")));
            fs::write(path("new"), "y").unwrap_err();
            fs::read(path("tokens/other")).unwrap(); // It can take the token's place.
            assert_eq!(fs::read_dir(path("certs")).unwrap().count(), 1);
            fs::read(path("certs/root.pem")).unwrap();
            denied("a file in the home folder", fs::read(path("secret/id")));
            denied("the home folder", fs::read_dir(path(".")));
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().canonicalize().unwrap();
        for file in [
            "key.json",
            GCLOUD_CREDENTIALS,
            ".aws/credentials",
            ".aws/sso/cache",
            "tokens/token",
            "tokens/other",
            "certs/root.pem",
            "secret/id",
        ] {
            fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
            fs::write(folder.join(file), "x").unwrap();
        }
        run_again(
            "a_server_of_an_object_store_reads_credentials_and_not_the_home_folder",
            &folder,
        );
    }

    #[test]
    fn a_server_of_a_file_url_writes_its_catalog_and_no_image() {
        if let Some(folder) = std::env::var_os(CONFINED_IN) {
            let path = |path: &str| Path::new(&folder).join(path);
            let url = format!("file://{}", path("images").display());
            if !confine_as(&["--images", &url, "--no-tls"]) {
                return;
            }
            fs::create_dir_all(path("images/.jtp/v1/log")).unwrap();
            fs::write(path("images/.jtp/v1/log/1#1"), "y").unwrap();
            let (staged, log) = (path("images/.jtp/v1/log/1#1"), path("images/.jtp/v1/log/1"));
            fs::hard_link(&staged, log).unwrap();
            fs::remove_file(staged).unwrap();
            fs::read(path("images/a.png")).unwrap();
            denied("writing to an image", fs::write(path("images/a.png"), "y"));
            denied("removing an image", fs::remove_file(path("images/a.png")));
            return;
        }
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().canonicalize().unwrap();
        fs::create_dir(folder.join("images")).unwrap();
        fs::write(folder.join("images/a.png"), "x").unwrap();
        run_again(
            "a_server_of_a_file_url_writes_its_catalog_and_no_image",
            &folder,
        );
    }

    fn confined(folder: &Path) {
        let path = |path: &str| folder.join(path);
        let args = ["--images", "library/images", "--cache-dir", "cache"];
        let tls = ["--cert", "tls/cert.pem", "--key", "tls/key.pem"];
        std::env::set_current_dir(folder).unwrap();
        let args = ServerArgs::parse_from(["server"].into_iter().chain(args).chain(tls));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let processors = std::thread::available_parallelism().unwrap();
        fs::copy("/bin/true", path("cache/program")).unwrap();
        if let Err(reason) = system::confine(&Needs::of(&args)) {
            assert!(reason.contains("Landlock"), "{reason}");
            eprintln!("nothing is tested: {reason}");
            return;
        }
        let address = listener.local_addr().unwrap();
        let in_thread = std::thread::spawn({
            let secret = path("secret/id");
            move || denied("a file outside, from a thread", fs::read(secret))
        });
        in_thread.join().unwrap();
        denied("a file outside", fs::read(path("secret/id")));
        denied("a folder outside", fs::read_dir(path("secret")));
        denied("a system file", fs::read("/etc/passwd"));
        denied(
            "a file by a path with ..",
            fs::read(path("library/../secret/id")),
        );
        denied(
            "writing to an image",
            fs::write(path("library/images/a.png"), "y"),
        );
        denied("a new image", fs::write(path("library/images/b.png"), "y"));
        denied(
            "removing an image",
            fs::remove_file(path("library/images/a.png")),
        );
        denied("writing to the key", fs::write(path("tls/key.pem"), "y"));
        denied("the names beside the key", fs::read_dir(path("tls")));
        denied("a program", Command::new("/bin/true").status());
        denied(
            "a program in the cache",
            Command::new(path("cache/program")).status(),
        );
        denied("a link in the cache", symlink("/etc", path("cache/link")));
        denied(
            "moving a file into the cache",
            fs::rename(path("tls/key.pem"), path("cache/key.pem")),
        );
        denied("the folder above", fs::write(path("new"), "y"));
        denied("a connection", TcpStream::connect(address));
        denied("another port", TcpListener::bind("127.0.0.1:0"));

        fs::read(path("library/images/a.png")).unwrap();
        fs::read_dir(path("library/images")).unwrap();
        fs::read(path("tls/key.pem")).unwrap();
        // Where a folder takes the place of the images folder.
        fs::read_dir(path("library/other")).unwrap();
        fs::write(path("cache/index"), "y").unwrap();
        fs::create_dir(path("cache/forms")).unwrap();
        fs::rename(path("cache/index"), path("cache/forms/index")).unwrap();
        fs::remove_file(path("cache/forms/index")).unwrap();
        assert_eq!(std::thread::available_parallelism().unwrap(), processors);
        fs::read("/proc/self/cgroup").unwrap();
        // Sockets that were open go on.
        drop(client);
        listener.accept().unwrap();
    }

    #[test]
    fn links_are_named_that_may_be_changed_to_lead_outside() {
        let dir = tempfile::tempdir().unwrap();
        let path = |path: &str| dir.path().join(path);
        for images in ["app/releases/1/images", "app/photos", "www"] {
            fs::create_dir_all(path(images)).unwrap();
        }
        for (target, link) in [
            ("releases/1", "app/current"),
            ("photos", "app/live"),
            ("../app/releases/1/images", "www/images"),
        ] {
            symlink(target, path(link)).unwrap();
        }
        for (images, links) in [
            ("app/current/images", vec![path("app/current")]),
            ("app/live", vec![]),
            ("www/images", vec![path("www/images")]),
            ("app/releases/1/images", vec![]),
        ] {
            let images = path(images).display().to_string();
            let args = ServerArgs::parse_from(["server", "--no-tls", "--images", &images]);
            assert!(Needs::of(&args).fixed_links.iter().eq(&links), "{images}");
        }
    }

    #[test]
    fn the_parent_is_readable_unless_it_is_the_root_or_contains_home_folders() {
        let home = env::var_os("HOME").map(PathBuf::from).unwrap();
        assert_eq!(narrow_parent(Path::new("/srv/images")), Some("/srv".into()));
        for wide in ["/images", "/", "/home/photos"] {
            assert_eq!(narrow_parent(Path::new(wide)), None, "{wide}");
        }
        assert_eq!(narrow_parent(&home), None);
        assert_eq!(narrow_parent(&home.join("Pictures")), None);
        let images = home.join("Pictures/2026");
        assert_eq!(narrow_parent(&images), Some(home.join("Pictures")));

        // Nor by a link.
        let dir = tempfile::tempdir().unwrap();
        symlink(&home, dir.path().join("link")).unwrap();
        assert_eq!(narrow_parent(&dir.path().join("link/Pictures")), None);
    }
}
