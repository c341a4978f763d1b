//! A server that sends the same images to everyone, right or wrong.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

pub(crate) struct Stub {
    pub(crate) address: String,
}

struct Images {
    /// IDs and bytes. They are listed as `0.bmp`, `1.bmp` and so on.
    images: Vec<(u64, Vec<u8>)>,
    /// How many packets a response has. After that nothing comes, until the client closes the connection.
    packets: usize,
}

impl Stub {
    /// Serves up to 9 images of up to 127 bytes until the test ends.
    pub(crate) fn start(images: &[(u64, &[u8])], packets: usize) -> Stub {
        let images = images.iter().map(|&(id, bytes)| (id, bytes.to_vec()));
        let images = Arc::new(Images {
            images: images.collect(),
            packets,
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let images = Arc::clone(&images);
                // An error is the end of the connection.
                thread::spawn(move || images.serve(stream));
            }
        });
        Stub { address }
    }
}

impl Images {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut head = [0; 2];
            stream.read_exact(&mut head)?;
            let answer = match head[0] {
                0 => {
                    let ids = read_ids(&mut stream)?;
                    self.packets(b"JTPD", |id| ids.contains(&id))
                }
                1 => self.list(),
                2 => {
                    let had = read_ids(&mut stream)?;
                    self.packets(b"JTPB", |id| !had.contains(&id))
                }
                // WATCH: nothing happens.
                4 => Vec::new(),
                5 => self.packets(b"JTPG", |_| true),
                other => panic!("request {other}"),
            };
            stream.write_all(&answer)?;
        }
    }

    fn list(&self) -> Vec<u8> {
        let mut bytes = [b"JTPL".as_slice(), &[length(&self.images)]].concat();
        for (n, (id, image)) in self.images.iter().enumerate() {
            let name = format!("{n}.bmp");
            bytes.extend(id.to_be_bytes());
            bytes.extend([3, 0, length(name.as_bytes())]);
            bytes.extend(name.as_bytes());
            bytes.push(length(image));
        }
        bytes
    }

    fn packets(&self, header: &[u8], is_wanted: impl Fn(u64) -> bool) -> Vec<u8> {
        let wanted = self.images.iter().filter(|(id, _)| is_wanted(*id));
        let wanted: Vec<_> = wanted.collect();
        let mut bytes = [header, &[length(&wanted)]].concat();
        for (id, image) in wanted.into_iter().take(self.packets) {
            bytes.extend([3, length(image)]);
            bytes.extend(id.to_be_bytes());
            bytes.extend(image);
        }
        bytes
    }
}

/// Reads a count below 128 and this number of IDs.
fn read_ids(stream: &mut TcpStream) -> std::io::Result<Vec<u64>> {
    let mut count = [0];
    stream.read_exact(&mut count)?;
    (0..count[0])
        .map(|_| {
            let mut id = [0; 8];
            stream.read_exact(&mut id)?;
            Ok(u64::from_be_bytes(id))
        })
        .collect()
}

fn length<T>(items: &[T]) -> u8 {
    let length = u8::try_from(items.len()).unwrap();
    assert!(length < 128);
    length
}
