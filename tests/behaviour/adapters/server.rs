//! The adapters' servers.

use std::io;

use jtp_core::server::CloseReason;

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

pub(super) mod tokio {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use jtp_tokio::{Peer, Server, ShutdownSignal};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use crate::suite::adapters::wait::runtime;
    use crate::suite::adapters::{ServeArgs, ServerUnderTest};
    use crate::suite::stub::ServerStub;
    use crate::suite::transport::pipe::PipeEnd;

    struct AdapterServer {
        server: Server,
        stub: Arc<ServerStub>,
        stop: ShutdownSignal,
        task: JoinHandle<()>,
    }

    pub(in super::super) fn serve(serve: ServeArgs<'_>) -> Box<dyn ServerUnderTest> {
        let server = build!(jtp_tokio, &serve);
        let stop = ShutdownSignal::new();
        let (running, listener, stopped) = (server.clone(), serve.listener, stop.clone());
        let task = runtime().spawn(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            running.serve(listener, stopped.wait()).await.unwrap();
        });
        Box::new(AdapterServer {
            server,
            stub: Arc::clone(serve.stub),
            stop,
            task,
        })
    }

    impl ServerUnderTest for AdapterServer {
        fn serve_stream(&self, end: PipeEnd, address: SocketAddr) {
            let (server, stub) = (self.server.clone(), Arc::clone(&self.stub));
            runtime().spawn(async move {
                let peer = Peer::new(Some(address));
                let result = server.serve_stream(end, peer).await;
                stub.record_close(address, &super::describe_end(result));
            });
        }

        fn shut_down(&mut self) {
            self.stop.begin();
        }

        fn join(self: Box<Self>) {
            runtime().block_on(self.task).unwrap();
        }
    }
}

pub(super) mod async_std {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use async_std::net::TcpListener;
    use async_std::task::JoinHandle;
    use jtp_async_std::{Peer, Server, ShutdownSignal};

    use crate::suite::adapters::{ServeArgs, ServerUnderTest};
    use crate::suite::stub::ServerStub;
    use crate::suite::transport::pipe::PipeEnd;

    struct AdapterServer {
        server: Server,
        stub: Arc<ServerStub>,
        stop: ShutdownSignal,
        task: JoinHandle<()>,
    }

    pub(in super::super) fn serve(serve: ServeArgs<'_>) -> Box<dyn ServerUnderTest> {
        let server = build!(jtp_async_std, &serve);
        let stop = ShutdownSignal::new();
        let (running, listener, stopped) = (server.clone(), serve.listener, stop.clone());
        let task = async_std::task::spawn(async move {
            let listener = TcpListener::from(listener);
            running.serve(listener, stopped.wait()).await.unwrap();
        });
        Box::new(AdapterServer {
            server,
            stub: Arc::clone(serve.stub),
            stop,
            task,
        })
    }

    impl ServerUnderTest for AdapterServer {
        fn serve_stream(&self, end: PipeEnd, address: SocketAddr) {
            let (server, stub) = (self.server.clone(), Arc::clone(&self.stub));
            async_std::task::spawn(async move {
                let peer = Peer::new(Some(address));
                let result = server.serve_stream(end, peer).await;
                stub.record_close(address, &super::describe_end(result));
            });
        }

        fn shut_down(&mut self) {
            self.stop.begin();
        }

        fn join(self: Box<Self>) {
            async_std::task::block_on(self.task);
        }
    }
}

pub(super) mod blocking {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};

    use jtp_blocking::{Peer, Server, ShutdownSignal};

    use crate::suite::adapters::{ServeArgs, ServerUnderTest};
    use crate::suite::stub::ServerStub;
    use crate::suite::transport::pipe::PipeEnd;

    struct AdapterServer {
        server: Server,
        stub: Arc<ServerStub>,
        stop: ShutdownSignal,
        thread: JoinHandle<()>,
    }

    pub(in super::super) fn serve(serve: ServeArgs<'_>) -> Box<dyn ServerUnderTest> {
        let server = build!(jtp_blocking, &serve);
        let stop = ShutdownSignal::new();
        let (running, listener, stopped) = (server.clone(), serve.listener, stop.clone());
        let thread = thread::spawn(move || running.serve(listener, &stopped).unwrap());
        Box::new(AdapterServer {
            server,
            stub: Arc::clone(serve.stub),
            stop,
            thread,
        })
    }

    impl ServerUnderTest for AdapterServer {
        fn serve_stream(&self, end: PipeEnd, address: SocketAddr) {
            let (server, stub) = (self.server.clone(), Arc::clone(&self.stub));
            thread::spawn(move || {
                let peer = Peer::new(Some(address));
                let result = server.serve_stream(end.clone(), end.clone(), end, peer);
                stub.record_close(address, &super::describe_end(result));
            });
        }

        fn shut_down(&mut self) {
            self.stop.begin();
        }

        fn join(self: Box<Self>) {
            self.thread.join().unwrap();
        }
    }
}
