//! The adapters' clients.

/// Implements the client of one adapter. `$wait!(call)` waits for a call; `$repeat!(drop_pending, call)` for a cancel
/// safe one, which is dropped while pending and called again if `drop_pending` is set.
macro_rules! client {
    ($name:ident, $adapter:ident, $wait:ident, $repeat:ident, $over:expr) => {
        pub(super) mod $name {
            use std::net::SocketAddr;

            use jtp_core::{BodyReceiver, Image};
            use $adapter::{Client, Error, ImageError, Images};

            use crate::suite::script::Setup;
            use crate::suite::traits::{
                ClientUnderTest, Entry, Failure, FetchControl, FetchOutcome, ImageEvent,
                ImageRequest, WatchControl, WatchEvent, chain,
            };
            use crate::suite::transport::pipe::PipeEnd;
            use crate::support::tls::{localhost, tls};

            struct AdapterClient {
                client: Client,
                #[allow(dead_code, reason = "a blocked call cannot be dropped")]
                drop_pending: bool,
                /// Decodes images that the client delivers undecoded.
                decoder: Option<BodyReceiver>,
            }

            pub(in super::super) fn client(
                setup: &Setup,
                address: SocketAddr,
                secure: bool,
            ) -> Box<dyn ClientUnderTest> {
                let mut builder = Client::builder(address.to_string())
                    .config(setup.client)
                    .connect_timeout(setup.connect_timeout)
                    .keep_alive(setup.keep_alive)
                    .retries(setup.retries);
                if let Some((entries, bytes)) = setup.catalog_limits {
                    builder = builder.catalog_limits(entries, bytes);
                }
                if secure {
                    builder = builder.tls(tls().client(), localhost());
                }
                Box::new(AdapterClient {
                    client: builder.build(),
                    drop_pending: false,
                    decoder: decoder(setup),
                })
            }

            pub(in super::super) fn over(
                setup: &Setup,
                end: PipeEnd,
                drop_pending: bool,
            ) -> Box<dyn ClientUnderTest> {
                let client = $over(end, setup.client);
                Box::new(AdapterClient {
                    client,
                    drop_pending,
                    decoder: decoder(setup),
                })
            }

            fn describe(error: &Error) -> Failure {
                match error {
                    Error::Protocol(error) => format!("protocol: {}", chain(error)),
                    Error::Refused(error) => describe(error),
                    Error::Misuse(misuse) => format!("misuse: {misuse}"),
                    Error::Connect { .. } => "cannot connect".into(),
                    Error::CatalogTooLarge { .. } => "catalog too large".into(),
                    Error::Io(error) => format!("io: {:?}", error.kind()),
                    other => format!("other: {}", chain(other)),
                }
            }

            impl ClientUnderTest for AdapterClient {
                fn list(&mut self) -> Result<Vec<Entry>, Failure> {
                    $wait!(self.client.list()).map_err(|error| describe(&error))
                }

                fn fetch(
                    &mut self,
                    request: &ImageRequest,
                    on_event: &mut dyn FnMut(ImageEvent<'_>) -> FetchControl,
                ) -> Result<FetchOutcome, Failure> {
                    #[allow(unused_variables, reason = "a blocked call cannot be dropped")]
                    let drop_pending = self.drop_pending;
                    let mut images = images(&mut self.client, request);
                    let mut next = FetchControl::Continue;
                    let mut fatal = None;
                    while matches!(next, FetchControl::Continue | FetchControl::Skip) {
                        let image = $repeat!(drop_pending, images.next());
                        let image = image.map_err(|error| match (error, fatal.take()) {
                            // It was returned inside an image.
                            (Error::Failed, Some(error)) => error,
                            (error, _) => describe(&error),
                        });
                        match image? {
                            Some(mut incoming) => {
                                let image: Image = incoming.image();
                                next = on_event(ImageEvent::Image(image));
                                if let (Some(body), FetchControl::Continue) =
                                    (&mut self.decoder, next)
                                {
                                    let mut packet = incoming.undecoded().unwrap();
                                    assert_eq!(packet.image(), image);
                                    body.begin(image);
                                    while next == FetchControl::Continue {
                                        let chunk = $repeat!(drop_pending, packet.chunk());
                                        next = match chunk {
                                            Ok(Some(bytes)) => decode(body, bytes, on_event),
                                            Ok(None) => {
                                                let verified = body.verdict().unwrap().unwrap();
                                                assert_eq!(verified.image(), image);
                                                next = on_event(ImageEvent::Verified);
                                                break;
                                            }
                                            Err(error) => {
                                                next = bad(error, &mut fatal, on_event);
                                                break;
                                            }
                                        };
                                    }
                                    continue;
                                }
                                while next == FetchControl::Continue {
                                    let chunk = $repeat!(drop_pending, incoming.chunk());
                                    next = match chunk {
                                        Ok(Some(bytes)) => on_event(ImageEvent::Bytes(bytes)),
                                        Ok(None) => {
                                            next = on_event(ImageEvent::Verified);
                                            break;
                                        }
                                        Err(error) => {
                                            next = bad(error, &mut fatal, on_event);
                                            break;
                                        }
                                    };
                                }
                            }
                            None => return Ok(fetched(&images, false)),
                        }
                    }
                    if next == FetchControl::Drop {
                        return Ok(FetchOutcome::default());
                    }
                    let mut fetched = fetched(&images, true);
                    fetched.absent.clear();
                    $wait!(images.cancel()).map_err(|error| describe(&error))?;
                    Ok(fetched)
                }

                fn cancel_idle(
                    &mut self,
                    request: &ImageRequest,
                    after: bool,
                ) -> Result<(), Failure> {
                    let mut images = images(&mut self.client, request);
                    while after {
                        match $wait!(images.next()).map_err(|error| describe(&error))? {
                            Some(incoming) => drop(incoming),
                            None => break,
                        }
                    }
                    $wait!(images.cancel()).map_err(|error| describe(&error))
                }

                fn watch(
                    &mut self,
                    list: bool,
                    on_event: &mut dyn FnMut(WatchEvent) -> WatchControl,
                ) -> Result<Option<Vec<Entry>>, Failure> {
                    #[allow(unused_variables, reason = "a blocked call cannot be dropped")]
                    let drop_pending = self.drop_pending;
                    let (entries, mut watch) = if list {
                        let started = $wait!(self.client.list_and_watch());
                        let (entries, watch) = started.map_err(|error| describe(&error))?;
                        (Some(entries), watch)
                    } else {
                        (
                            None,
                            $wait!(self.client.watch()).map_err(|error| describe(&error))?,
                        )
                    };
                    let mut then = on_event(WatchEvent::Started(entries));
                    while then == WatchControl::Wait {
                        let entry = $repeat!(drop_pending, watch.next());
                        then = on_event(WatchEvent::NewImage(
                            entry.map_err(|error| describe(&error))?,
                        ));
                    }
                    if then == WatchControl::Drop {
                        return Ok(None);
                    }
                    let last = $wait!(watch.cancel()).map_err(|error| describe(&error))?;
                    Ok(Some(last))
                }

                fn close(&mut self) {
                    $wait!(self.client.close());
                }
            }

            fn images<'c>(client: &'c mut Client, request: &ImageRequest) -> Images<'c> {
                match request {
                    ImageRequest::Get(ids) => client.get(ids.iter().copied()),
                    ImageRequest::Batch(have) => client.batch(have.clone()),
                    ImageRequest::All => client.list_and_get(),
                }
            }

            fn decoder(setup: &Setup) -> Option<BodyReceiver> {
                setup.undecoded.then(BodyReceiver::default)
            }

            fn decode(
                body: &mut BodyReceiver,
                mut bytes: &[u8],
                on_event: &mut dyn FnMut(ImageEvent<'_>) -> FetchControl,
            ) -> FetchControl {
                let mut next = FetchControl::Continue;
                while next == FetchControl::Continue && !bytes.is_empty() {
                    let piece = body.receive(bytes);
                    bytes = &bytes[piece.used..];
                    if !piece.data.is_empty() {
                        next = on_event(ImageEvent::Bytes(piece.data));
                    }
                }
                next
            }

            fn bad(
                error: ImageError,
                fatal: &mut Option<Failure>,
                on_event: &mut dyn FnMut(ImageEvent<'_>) -> FetchControl,
            ) -> FetchControl {
                match error {
                    ImageError::Fault { fault, last } => on_event(ImageEvent::Fault {
                        fault: fault.to_string(),
                        last,
                    }),
                    ImageError::Interrupted(_) => on_event(ImageEvent::Interrupted),
                    ImageError::Fatal(error) => {
                        *fatal = Some(describe(&error));
                        on_event(ImageEvent::Interrupted)
                    }
                    other => panic!("{other}"),
                }
            }

            fn fetched(images: &Images<'_>, cancelled: bool) -> FetchOutcome {
                FetchOutcome {
                    cancelled,
                    absent: images.absent().to_vec(),
                    promised: images.announced(),
                }
            }
        }
    };
}

macro_rules! wait_tokio {
    ($call:expr) => {
        $crate::suite::adapters::wait::runtime()
            .block_on($crate::suite::adapters::pending::CountPending::new($call))
    };
}

macro_rules! wait_async_std {
    ($call:expr) => {
        ::async_std::task::block_on($crate::suite::adapters::pending::CountPending::new($call))
    };
}

macro_rules! wait_blocking {
    ($call:expr) => {
        $call
    };
}

macro_rules! repeat_tokio {
    ($drop_pending:expr, $call:expr) => {
        if $drop_pending {
            loop {
                let once = $crate::suite::adapters::wait::PollOnce::new($call);
                if let Some(done) = wait_tokio!(once) {
                    break done;
                }
            }
        } else {
            wait_tokio!($call)
        }
    };
}

macro_rules! repeat_async_std {
    ($drop_pending:expr, $call:expr) => {
        if $drop_pending {
            loop {
                let once = $crate::suite::adapters::wait::PollOnce::new($call);
                if let Some(done) = wait_async_std!(once) {
                    break done;
                }
            }
        } else {
            wait_async_std!($call)
        }
    };
}

macro_rules! repeat_blocking {
    ($drop_pending:expr, $call:expr) => {
        $call
    };
}

client!(
    tokio,
    jtp_tokio,
    wait_tokio,
    repeat_tokio,
    Client::from_stream
);
client!(
    async_std,
    jtp_async_std,
    wait_async_std,
    repeat_async_std,
    Client::from_stream
);
client!(
    blocking,
    jtp_blocking,
    wait_blocking,
    repeat_blocking,
    |end: PipeEnd, config| Client::from_stream(end.clone(), end.clone(), end, config).unwrap()
);
