//! Measures how much idle and slow connections delay others: the latency of LIST on an unloaded server, and again with
//! 1,000 idle connections and 50 that send one byte per second.
//!
//! `cargo run --release --example idle_load [HOST:PORT [IDLE [SLOW [ROUNDS]]]]` (by default `127.0.0.1:8443`,
//! plain TCP). Start the server with `--keep-alive-timeout 0`, or it closes idle connections after 30 s, and with
//! `--max-connections-per-ip 0`, or it admits 512 from one address.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use jtp_examples::{Result, exit};
use jtp_tokio::Client;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::main]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8443".to_owned());
    let mut number = |default: usize| args.next().map_or(Ok(default), |arg| arg.parse());
    let (idle, slow, rounds) = (number(1_000)?, number(50)?, number(2_000)?);

    let mut client = Client::builder(&address).build();
    measure(&mut client, rounds).await?; // Warm up.
    let before = measure(&mut client, rounds).await?;

    let mut idle_streams = Vec::new();
    for _ in 0..idle {
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(&[1, 1]).await?; // A LIST with keep-alive. The response is never read.
        idle_streams.push(stream);
    }
    for _ in 0..slow {
        let mut stream = TcpStream::connect(&address).await?;
        tokio::spawn(async move {
            // A BATCH of 1,000 IDs, one byte per second.
            for byte in [2, 1, 0xe8, 0x07].into_iter().chain(std::iter::repeat(0)) {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    let during = measure(&mut client, rounds).await?;
    drop(idle_streams);

    let names = ["unloaded".to_owned(), format!("{idle} idle, {slow} slow")];
    println!("| LIST | p50 | p99 | worst |\n|---|---|---|---|");
    for (name, times) in names.iter().zip([&before, &during]) {
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "| {name} | {:.1?} | {:.1?} | {:.1?} |",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    let p99 = |times: &[Duration]| times[(times.len() - 1) * 99 / 100].as_secs_f64();
    println!("p99 ratio: {:.2}", p99(&during) / p99(&before));
    Ok(())
}

/// The latencies of `rounds` LISTs, sorted.
async fn measure(client: &mut Client, rounds: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let started = Instant::now();
        client.list().await?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times)
}
