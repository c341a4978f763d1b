//! A web server that lists folders, for the commands of wget. It also accepts the requests to a proxy.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// It serves until the process ends.
pub(crate) struct WebServer {
    pub(crate) address: SocketAddr,
}

impl WebServer {
    pub(crate) fn new(folder: PathBuf) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _ = answer(stream, &folder);
            }
        });
        WebServer { address }
    }
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    // A request to a proxy names the host too.
    let target = request.split(' ').nth(1).unwrap_or("/");
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let target = target.split('?').next().unwrap_or("/");
    let path = folder.join(target.trim_start_matches('/'));
    if path.is_dir() {
        let mut page = String::new();
        for entry in fs::read_dir(&path)?.flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let slash = if entry.path().is_dir() { "/" } else { "" };
            let _ = writeln!(page, "<a href=\"{name}{slash}\">{name}</a>");
        }
        return respond(
            &mut stream,
            "200 OK",
            "Content-Type: text/html\r\n",
            page.as_bytes(),
        );
    }
    match fs::read(&path) {
        Ok(bytes) => {
            let modified = http_date(fs::metadata(&path)?.modified()?);
            let headers = format!("Content-Type: image/jpeg\r\nLast-Modified: {modified}\r\n");
            respond(&mut stream, "200 OK", &headers, &bytes)
        }
        Err(_) => respond(&mut stream, "404 Not Found", "", b""),
    }
}

fn respond(
    stream: &mut TcpStream,
    status: &str,
    headers: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}

/// A time as HTTP writes it.
fn http_date(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let names = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let weekday = weekdays[usize::try_from(days % 7).unwrap_or(0)];
    format!(
        "{weekday}, {:02} {} {year} {:02}:{:02}:{:02} GMT",
        day + 1,
        names[month],
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}
