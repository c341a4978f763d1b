//! smol with an executor of the program's.

use std::sync::Arc;
use std::thread;

use jtp_async_std::smol::{Client, Server, Smol};
use jtp_async_std::store::MemoryStore;
use smol::Executor;
use smol::net::TcpListener;

use crate::Result;

#[test]
fn connections_run_on_the_executor_that_the_server_was_given() -> Result {
    let executor = Arc::new(Executor::new());
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let running = thread::Builder::new().name("the executor".to_owned());
    let running = running.spawn({
        let executor = Arc::clone(&executor);
        move || smol::block_on(executor.run(stopped.recv()))
    })?;

    let store = MemoryStore::new();
    store.insert("a.png", b"pixels".as_slice())?;
    let (handled, handler_threads) = smol::channel::unbounded();
    let server = Server::builder_on(Smol::with_executor(executor), store)
        .on_request(move |request| {
            let handled = handled.clone();
            async move {
                let name = thread::current().name().map(str::to_owned);
                handled.send(name).await.unwrap();
                request.accept()
            }
        })
        .build();
    // The server is driven by another thread, and the client by this one.
    let listener = smol::block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?.to_string();
    let serving = thread::spawn({
        let server = server.clone();
        move || smol::block_on(server.serve(listener, std::future::pending()))
    });
    let listed = smol::block_on(async {
        let mut client = Client::builder(address).build();
        let listed = client.list().await;
        client.close().await;
        listed
    });
    assert_eq!(listed?.len(), 1);
    let thread = smol::block_on(handler_threads.recv())?;
    assert_eq!(thread.as_deref(), Some("the executor"));
    smol::block_on(server.shutdown());
    serving.join().unwrap()?;
    drop(stop);
    assert!(running.join().unwrap().is_err()); // The channel is closed.
    Ok(())
}
