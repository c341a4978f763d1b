//! The reference programs of the benchmark: a plain copy of files over TCP, a discarding reader, the output of another
//! program over TCP, and hashing only. `benchmark/run` starts them.
//!
//! ```text
//! benchmark_peer serve DIR [TIMES]      send all files of DIR to each connection, TIMES times
//! benchmark_peer fetch ADDR OUT         receive them into OUT
//! benchmark_peer drain ADDR HEX TIMES   send these bytes TIMES times, then read until EOF; prints bytes and seconds
//! benchmark_peer list ADDR              write the response to a LIST to stdout
//! benchmark_peer serve-command COMMAND  run COMMAND for each connection, with the connection as its stdout
//! benchmark_peer fetch-command ADDR COMMAND    run COMMAND with the connection as its stdin
//! benchmark_peer hash DIR               read and hash all files on all processors; prints files, bytes and seconds
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use jtp_core::ImageHasher;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The size of reads and writes, in bytes.
const BUFFER_LEN: usize = 256 * 1024;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["serve", dir] => serve(Path::new(dir), 1),
        ["serve", dir, times] => parse(times).and_then(|times| serve(Path::new(dir), times)),
        ["fetch", addr, out] => fetch(addr, Path::new(out)),
        ["drain", addr, hex, times] => parse(times).and_then(|times| drain(addr, hex, times)),
        ["list", addr] => list(addr),
        ["serve-command", program, ref args @ ..] => serve_command(program, args),
        ["fetch-command", addr, program, ref args @ ..] => fetch_command(addr, program, args),
        ["hash", dir] => hash(Path::new(dir)),
        _ => Err("usage: see the documentation in examples/benchmark/peer.rs".into()),
    };
    jtp_examples::exit(result)
}

fn parse(number: &str) -> Result<usize> {
    Ok(number.parse()?)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    Ok(listener)
}

/// Serves files in the format: name length (2 bytes), name, file length (8 bytes), bytes.
fn serve(dir: &Path, times: usize) -> Result {
    let files = files(dir)?;
    for stream in listen()?.incoming() {
        // A client that disconnects early does not end the server.
        if let Err(error) = send_all(&files, times, stream?) {
            eprintln!("{error}");
        }
    }
    Ok(())
}

fn send_all(files: &[PathBuf], times: usize, stream: TcpStream) -> Result {
    stream.set_nodelay(true)?;
    let mut out = BufWriter::with_capacity(BUFFER_LEN, stream);
    let mut buffer = vec![0; BUFFER_LEN];
    for _ in 0..times {
        for path in files {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            let mut file = File::open(path)?;
            let length = file.metadata()?.len();
            out.write_all(&u16::try_from(name.len())?.to_be_bytes())?;
            out.write_all(name)?;
            out.write_all(&length.to_be_bytes())?;
            let mut left = length;
            while left > 0 {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    return Err(format!("{} was truncated while being sent", path.display()).into());
                }
                out.write_all(&buffer[..read])?;
                left -= u64::try_from(read)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn fetch(addr: &str, out: &Path) -> Result {
    let mut stream = BufReader::with_capacity(BUFFER_LEN, TcpStream::connect(addr)?);
    let mut buffer = vec![0; BUFFER_LEN];
    let mut name_length = [0; 2];
    while stream.read(&mut name_length[..1])? == 1 {
        stream.read_exact(&mut name_length[1..])?;
        let mut name = vec![0; usize::from(u16::from_be_bytes(name_length))];
        stream.read_exact(&mut name)?;
        let mut length = [0; 8];
        stream.read_exact(&mut length)?;
        let mut left = usize::try_from(u64::from_be_bytes(length))?;
        let mut file = File::create(out.join(String::from_utf8(name)?))?;
        while left > 0 {
            let part = left.min(BUFFER_LEN);
            let read = stream.read(&mut buffer[..part])?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            file.write_all(&buffer[..read])?;
            left -= read;
        }
    }
    Ok(())
}

fn drain(addr: &str, hex: &str, times: usize) -> Result {
    let request = (0..hex.len())
        .step_by(2)
        .map(|at| {
            Ok(u8::from_str_radix(
                hex.get(at..at + 2).ok_or("odd number of hex digits")?,
                16,
            )?)
        })
        .collect::<Result<Vec<u8>>>()?;
    let started = Instant::now();
    let mut stream = TcpStream::connect(addr)?;
    stream.write_all(&request.repeat(times))?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut buffer = vec![0; BUFFER_LEN];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            read => bytes += read,
        }
    }
    println!("{bytes} {}", started.elapsed().as_secs_f64());
    Ok(())
}

fn list(addr: &str) -> Result {
    let mut stream = TcpStream::connect(addr)?;
    stream.write_all(&[1, 0])?;
    io::copy(&mut stream, &mut io::stdout().lock())?;
    Ok(())
}

#[cfg(unix)]
fn connection_of(stream: TcpStream) -> Stdio {
    Stdio::from(std::os::fd::OwnedFd::from(stream))
}

#[cfg(not(unix))]
fn connection_of(_: TcpStream) -> Stdio {
    panic!("passing a connection to a program requires Unix")
}

fn serve_command(program: &str, args: &[&str]) -> Result {
    for stream in listen()?.incoming() {
        let mut command = Command::new(program);
        let status = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(connection_of(stream?))
            .status()?;
        if !status.success() {
            eprintln!("{program}: {status}");
        }
    }
    Ok(())
}

fn fetch_command(addr: &str, program: &str, args: &[&str]) -> Result {
    let stream = TcpStream::connect(addr)?;
    let mut command = Command::new(program);
    let status = command.args(args).stdin(connection_of(stream)).status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{program}: {status}").into())
}

fn hash(dir: &Path) -> Result {
    let started = Instant::now();
    let files = files(dir)?;
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let work = || -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_LEN];
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut file = File::open(path)?;
            let mut hasher = ImageHasher::new();
            let mut length = 0;
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    read => {
                        hasher.update(&buffer[..read]);
                        length += u64::try_from(read).unwrap_or(0);
                    }
                }
            }
            std::hint::black_box(hasher.id());
            bytes.fetch_add(length, Ordering::Relaxed);
        }
        Ok(())
    };
    let threads = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| "a thread panicked")?
                .map_err(Into::into)
        }) as Result
    })?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{} {} {seconds}", files.len(), bytes.into_inner());
    Ok(())
}
