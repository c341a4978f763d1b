//! The adapters' servers.

use std::io;
use std::sync::Arc;
use std::thread;

use jtp_core::server::CloseReason;
use jtp_driver::ShutdownSignal;

use super::wait::runtime;
use super::{ServeArgs, ServerUnderTest};
use crate::suite::transport::pipe::PipeEnd;

/// The log's text for a connection's end.
fn describe_end(result: io::Result<Option<CloseReason>>) -> String {
    match result {
        Ok(Some(reason)) => reason.to_string(),
        Ok(None) => "none".into(),
        Err(error) => format!("lost: {:?}", error.kind()),
    }
}

/// Builds a server of one adapter.
macro_rules! build {
    ($adapter:ident, $serve:expr) => {{
        use $adapter::{Request, Server};
        let $crate::suite::adapters::ServeArgs {
            setup,
            store,
            stub,
            tls,
            blocks,
            ..
        } = $serve;
        let stub = ::std::sync::Arc::clone(stub);
        let store = (*store).clone();
        let builder = if *blocks {
            Server::builder($adapter::store::Blocking::new(store))
        } else {
            Server::builder(store)
        };
        let mut builder = builder
            .config(setup.server)
            .drain_timeout(Some(setup.drain))
            .on_request(move |request: Request| {
                let refusal = stub.decide(request.peer().address, request.head());
                async move {
                    match refusal {
                        Some((code, message)) => request.refuse(code, message),
                        None => request.accept(),
                    }
                }
            });
        if let Some(rate) = setup.rate {
            builder = builder.rate_limit(rate, ::std::time::Duration::from_secs(3600));
        }
        if let Some(max) = setup.max_connections {
            builder = builder.max_connections(max);
        }
        if let Some(max) = setup.max_per_address {
            builder = builder.max_connections_per_ip(max);
        }
        if let Some(max) = setup.max_watchers {
            builder = builder.max_watchers(max);
        }
        if let Some(max) = setup.max_handshakes {
            builder = builder.max_handshakes(max);
        }
        if *tls {
            let (handshake, first_byte) = setup.handshake;
            builder = builder
                .tls($crate::support::tls::tls().server.clone())
                .handshake_timeout(handshake)
                .first_byte_timeout(first_byte);
        }
        builder.build()
    }};
}

pub(super) fn tokio(serve: ServeArgs<'_>) -> ServerUnderTest {
    use jtp_tokio::Peer;
    let server = build!(jtp_tokio, &serve);
    let (running, listener, stop) = (server.clone(), serve.listener, ShutdownSignal::new());
    let stopped = stop.wait();
    let task = runtime().spawn(async move {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        running.serve(listener, stopped).await.unwrap();
    });
    let stub = Arc::clone(serve.stub);
    let serve_stream = move |end: PipeEnd, address| {
        let (server, stub) = (server.clone(), Arc::clone(&stub));
        runtime().spawn(async move {
            let result = server.serve_stream(end, Peer::new(Some(address))).await;
            stub.record_close(address, &describe_end(result));
        });
    };
    let join = move || runtime().block_on(task).unwrap();
    ServerUnderTest::new(serve_stream, stop, join)
}

pub(super) fn async_std(serve: ServeArgs<'_>) -> ServerUnderTest {
    use async_std::task;
    use jtp_async_std::Peer;
    let server = build!(jtp_async_std, &serve);
    let (running, listener, stop) = (server.clone(), serve.listener, ShutdownSignal::new());
    let stopped = stop.wait();
    let serving =
        task::spawn(async move { running.serve(listener.into(), stopped).await.unwrap() });
    let stub = Arc::clone(serve.stub);
    let serve_stream = move |end: PipeEnd, address| {
        let (server, stub) = (server.clone(), Arc::clone(&stub));
        task::spawn(async move {
            let result = server.serve_stream(end, Peer::new(Some(address))).await;
            stub.record_close(address, &describe_end(result));
        });
    };
    ServerUnderTest::new(serve_stream, stop, move || task::block_on(serving))
}

pub(super) fn blocking(serve: ServeArgs<'_>) -> ServerUnderTest {
    use jtp_blocking::Peer;
    let server = build!(jtp_blocking, &serve);
    let (running, listener, stop) = (server.clone(), serve.listener, ShutdownSignal::new());
    let stopped = stop.clone();
    let thread = thread::spawn(move || running.serve(listener, &stopped).unwrap());
    let stub = Arc::clone(serve.stub);
    let serve_stream = move |end: PipeEnd, address| {
        let (server, stub) = (server.clone(), Arc::clone(&stub));
        thread::spawn(move || {
            let peer = Peer::new(Some(address));
            let result = server.serve_stream(end.clone(), end.clone(), end, peer);
            stub.record_close(address, &describe_end(result));
        });
    };
    ServerUnderTest::new(serve_stream, stop, move || thread.join().unwrap())
}
