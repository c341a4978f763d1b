//! A server and a client that are given a runtime by its handle, and driven from outside of it.

use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use jtp_tokio::runtime::Tokio;
use jtp_tokio::store::MemoryStore;
use jtp_tokio::{Client, Server};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};

use crate::Result;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread, which is in no runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    assert!(Handle::try_current().is_err());
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn server_and_client_work_outside_of_the_runtime_of_their_handle() -> Result {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("of the handle")
        .build()?;
    let tokio = Tokio::with_handle(runtime.handle().clone());
    let store = MemoryStore::new();
    store.insert("a.png", b"pixels".as_slice())?;
    let (handled, handler_threads) = mpsc::channel();
    let server = Server::builder_on(tokio.clone(), store)
        .on_request(move |request| {
            let name = thread::current().name().map(str::to_owned);
            handled.send(name).unwrap();
            async { request.accept() }
        })
        .build();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let port = listener.local_addr()?.port();
    let serving = thread::spawn({
        let server = server.clone();
        move || block_on(server.serve(listener, pending()))
    });
    // A name, which is resolved on the runtime too.
    let mut client = Client::builder_on(tokio, format!("localhost:{port}")).build();
    assert_eq!(block_on(client.list())?.len(), 1);
    assert_eq!(handler_threads.recv()?.as_deref(), Some("of the handle"));
    block_on(client.close());
    block_on(server.shutdown());
    serving.join().unwrap()?;
    Ok(())
}
