//! The clients.

/// The client of one adapter. `$wait!(client, future)` waits for a call; `$again!(client, call)` for one that
/// may be dropped and made again.
macro_rules! client {
    ($name:ident, $adapter:ident, $wait:ident, $again:ident, $over:expr) => {
        pub(super) mod $name {
            use std::net::SocketAddr;

            use jtp_core::{BodyReceiver, Image};
            use $adapter::{Client, Error, ImageError, Images};

            use crate::suite::ends::{
                Ask, ClientEnd, Entry, Failure, Fetched, News, Next, Seen, Then,
            };
            use crate::suite::script::Setup;
            use crate::suite::transport::pipe::End;
            use crate::support::tls::{localhost, tls};

            struct Ours {
                client: Client,
                #[allow(dead_code, reason = "a blocked call cannot be dropped")]
                impatient: bool,
                /// What decodes images here, where they are to come as they travel.
                decoder: Option<BodyReceiver>,
            }

            pub(in super::super) fn client(
                setup: &Setup,
                address: SocketAddr,
                secure: bool,
            ) -> Box<dyn ClientEnd> {
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
                Box::new(Ours {
                    client: builder.build(),
                    impatient: false,
                    decoder: decoder(setup),
                })
            }

            pub(in super::super) fn over(
                setup: &Setup,
                end: End,
                impatient: bool,
            ) -> Box<dyn ClientEnd> {
                let client = $over(end, setup.client);
                Box::new(Ours {
                    client,
                    impatient,
                    decoder: decoder(setup),
                })
            }

            fn tell(error: &Error) -> Failure {
                match error {
                    Error::Protocol(error) => format!("protocol: {error}"),
                    Error::Misuse(misuse) => format!("misuse: {misuse}"),
                    Error::Connect { .. } => "cannot connect".into(),
                    Error::CatalogTooLarge { .. } => "catalog too large".into(),
                    Error::Io(error) => format!("io: {:?}", error.kind()),
                    other => format!("other: {other}"),
                }
            }

            impl ClientEnd for Ours {
                fn list(&mut self) -> Result<Vec<Entry>, Failure> {
                    $wait!(self.client.list()).map_err(|error| tell(&error))
                }

                fn fetch(
                    &mut self,
                    ask: &Ask,
                    see: &mut dyn FnMut(Seen<'_>) -> Next,
                ) -> Result<Fetched, Failure> {
                    #[allow(unused_variables, reason = "a blocked call cannot be dropped")]
                    let impatient = self.impatient;
                    let mut images = images(&mut self.client, ask);
                    let mut next = Next::Go;
                    while matches!(next, Next::Go | Next::Skip) {
                        let image = $again!(impatient, images.next());
                        match image.map_err(|error| tell(&error))? {
                            Some(mut incoming) => {
                                let image: Image = incoming.image();
                                next = see(Seen::Image(image));
                                if let (Some(body), Next::Go) = (&mut self.decoder, next) {
                                    let mut packet = incoming.undecoded().unwrap();
                                    assert_eq!(packet.image(), image);
                                    body.begin(image);
                                    while next == Next::Go {
                                        let chunk = $again!(impatient, packet.chunk());
                                        next = match chunk {
                                            Ok(Some(bytes)) => decode(body, bytes, see),
                                            Ok(None) => {
                                                assert!(matches!(body.verdict(), Some(Ok(verified)) if verified.image() == image));
                                                next = see(Seen::Good);
                                                break;
                                            }
                                            Err(error) => {
                                                next = bad(error, see);
                                                break;
                                            }
                                        };
                                    }
                                    continue;
                                }
                                while next == Next::Go {
                                    let chunk = $again!(impatient, incoming.chunk());
                                    next = match chunk {
                                        Ok(Some(bytes)) => see(Seen::Bytes(bytes)),
                                        Ok(None) => {
                                            next = see(Seen::Good);
                                            break;
                                        }
                                        Err(error) => {
                                            next = bad(error, see);
                                            break;
                                        }
                                    };
                                }
                            }
                            None => return Ok(fetched(&images, false)),
                        }
                    }
                    if next == Next::Leave {
                        return Ok(Fetched::default());
                    }
                    let mut fetched = fetched(&images, true);
                    fetched.absent.clear();
                    $wait!(images.cancel()).map_err(|error| tell(&error))?;
                    Ok(fetched)
                }

                fn cancel_nothing(&mut self, ask: &Ask, after: bool) -> Result<(), Failure> {
                    let mut images = images(&mut self.client, ask);
                    while after {
                        match $wait!(images.next()).map_err(|error| tell(&error))? {
                            Some(incoming) => drop(incoming),
                            None => break,
                        }
                    }
                    $wait!(images.cancel()).map_err(|error| tell(&error))
                }

                fn watch(
                    &mut self,
                    list: bool,
                    see: &mut dyn FnMut(News) -> Then,
                ) -> Result<Option<Vec<Entry>>, Failure> {
                    #[allow(unused_variables, reason = "a blocked call cannot be dropped")]
                    let impatient = self.impatient;
                    let (entries, mut watch) = if list {
                        let begun = $wait!(self.client.list_and_watch());
                        let (entries, watch) = begun.map_err(|error| tell(&error))?;
                        (Some(entries), watch)
                    } else {
                        (
                            None,
                            $wait!(self.client.watch()).map_err(|error| tell(&error))?,
                        )
                    };
                    let mut then = see(News::Begun(entries));
                    while then == Then::Wait {
                        let entry = $again!(impatient, watch.next());
                        then = see(News::Image(entry.map_err(|error| tell(&error))?));
                    }
                    if then == Then::Leave {
                        return Ok(None);
                    }
                    let last = $wait!(watch.cancel()).map_err(|error| tell(&error))?;
                    Ok(Some(last))
                }

                fn close(&mut self) {
                    $wait!(self.client.close());
                }
            }

            fn images<'c>(client: &'c mut Client, ask: &Ask) -> Images<'c> {
                match ask {
                    Ask::Get(ids) => client.get(ids.iter().copied()),
                    Ask::Batch(have) => client.batch(have.clone()),
                    Ask::All => client.list_and_get(),
                }
            }

            fn decoder(setup: &Setup) -> Option<BodyReceiver> {
                setup.undecoded.then(BodyReceiver::default)
            }

            fn decode(
                body: &mut BodyReceiver,
                mut bytes: &[u8],
                see: &mut dyn FnMut(Seen<'_>) -> Next,
            ) -> Next {
                let mut next = Next::Go;
                while next == Next::Go && !bytes.is_empty() {
                    let piece = body.receive(bytes);
                    bytes = &bytes[piece.used..];
                    if !piece.data.is_empty() {
                        next = see(Seen::Bytes(piece.data));
                    }
                }
                next
            }

            fn bad(error: ImageError, see: &mut dyn FnMut(Seen<'_>) -> Next) -> Next {
                match error {
                    ImageError::Fault { fault, last } => see(Seen::Fault {
                        fault: fault.to_string(),
                        last,
                    }),
                    ImageError::Interrupted => see(Seen::Interrupted),
                    other => panic!("{other}"),
                }
            }

            fn fetched(images: &Images<'_>, cancelled: bool) -> Fetched {
                Fetched {
                    cancelled,
                    absent: images.absent().to_vec(),
                    promised: images.promised(),
                }
            }
        }
    };
}

macro_rules! wait_tokio {
    ($call:expr) => {
        $crate::suite::adapters::wait::runtime()
            .block_on($crate::suite::adapters::fate::Fated::new($call))
    };
}

macro_rules! wait_async_std {
    ($call:expr) => {
        ::async_std::task::block_on($crate::suite::adapters::fate::Fated::new($call))
    };
}

macro_rules! wait_blocking {
    ($call:expr) => {
        $call
    };
}

macro_rules! again_tokio {
    ($impatient:expr, $call:expr) => {
        if $impatient {
            loop {
                let once = $crate::suite::adapters::wait::Impatient::new($call);
                if let Some(done) = wait_tokio!(once) {
                    break done;
                }
            }
        } else {
            wait_tokio!($call)
        }
    };
}

macro_rules! again_async_std {
    ($impatient:expr, $call:expr) => {
        if $impatient {
            loop {
                let once = $crate::suite::adapters::wait::Impatient::new($call);
                if let Some(done) = wait_async_std!(once) {
                    break done;
                }
            }
        } else {
            wait_async_std!($call)
        }
    };
}

macro_rules! again_blocking {
    ($impatient:expr, $call:expr) => {
        $call
    };
}

client!(tokio, jtp_tokio, wait_tokio, again_tokio, Client::over);
client!(
    async_std,
    jtp_async_std,
    wait_async_std,
    again_async_std,
    Client::over
);
client!(
    blocking,
    jtp_blocking,
    wait_blocking,
    again_blocking,
    |end: End, config| Client::over(end.clone(), end.clone(), end, config).unwrap()
);
