//! The language: what a scenario is made of. [`play`](super::play) gives it its meaning.

use std::time::Duration;

use jtp_core::ImageId;
use jtp_core::client::ClientConfig;
use jtp_core::server::ServerConfig;
use jtp_core::wire::request::RequestHead;
use jtp_core::wire::response::ErrorCode;

use crate::support::files::{bmp, noise};

/// An image, by the name that the script calls it.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Whether it travels compressed. // S9
    pub(crate) packed: bool,
    /// Whether it goes by an ID that is not its own.
    pub(crate) forged: bool,
}

/// One of `len` bytes that travels raw.
pub(crate) fn png(name: &'static str, len: usize) -> Picture {
    let seed = ImageId::of(name.as_bytes()).0;
    Picture {
        name,
        bytes: noise(len, seed),
        packed: false,
        forged: false,
    }
}

/// One of `len` bytes that travels compressed.
pub(crate) fn packed(name: &'static str, len: usize) -> Picture {
    let [seed, ..] = ImageId::of(name.as_bytes()).to_be_bytes();
    Picture {
        name,
        bytes: bmp(len, seed),
        packed: true,
        forged: false,
    }
}

/// So many small ones, with names in order.
pub(crate) fn many(count: usize) -> Vec<Picture> {
    let name = |n: usize| -> &'static str { Box::leak(format!("{n:04}.png").into_boxed_str()) };
    (0..count).map(|n| png(name(n), 8 + n % 40)).collect()
}

/// One of `len` bytes that are not what its ID says.
pub(crate) fn forged(name: &'static str, len: usize) -> Picture {
    Picture {
        forged: true,
        ..png(name, len)
    }
}

/// What the application answers to a request, if not "yes".
pub(crate) type Refusal = (ErrorCode, &'static str);

/// All that is settled before the first step.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Every image that there ever is.
    pub(crate) pictures: Vec<Picture>,
    /// How many of them are there from the beginning: the first ones.
    pub(crate) there: usize,
    pub(crate) server: ServerConfig,
    pub(crate) client: ClientConfig,
    pub(crate) keep_alive: bool,
    pub(crate) retries: u32,
    pub(crate) catalog_limits: Option<(usize, usize)>,
    /// The most requests, in an hour.
    pub(crate) rate: Option<u32>,
    /// The most connections, in all and from one address.
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_per_address: Option<usize>,
    /// How long what is under way may take once the server shuts down.
    pub(crate) drain: Duration,
    /// How long connecting may take, TLS likewise.
    pub(crate) connect_timeout: Option<Duration>,
    /// How long a TLS handshake may take, and how long until it begins.
    pub(crate) handshake: (Option<Duration>, Option<Duration>),
    /// The application's word on each request.
    pub(crate) refuse: fn(&RequestHead) -> Option<Refusal>,
    /// What happens when the server asks the application about the first such request.
    pub(crate) on_request: Vec<(&'static str, Deed)>,
    /// Whether the client has to be able to connect, also again: then it is not run over memory.
    pub(crate) connects: bool,
    /// Whether the client decodes images itself, of which the log tells nothing.
    pub(crate) undecoded: bool,
    /// Whether the moment at which the server reads two things together matters: then it is not shaped.
    pub(crate) unshaped: bool,
    /// Images whose bodies are held back: from this byte on, until [`Deed::Open`].
    pub(crate) gates: Vec<(&'static str, u64)>,
    /// Images that cannot be read from this byte on; `None` if they cannot be opened.
    pub(crate) broken: Vec<(&'static str, Option<u64>)>,
    /// Of each direction of the only connection not more than this is let through, then it ends.
    pub(crate) cut: Cut,
}

/// How much is let through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) up: Option<u64>,
    pub(crate) down: Option<u64>,
}

/// A scenario.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
    /// What has to be in the log, so that no scenario is about something else than it says.
    pub(crate) must: Vec<&'static str>,
}

/// What the client does next, or what happens to the server.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    List,
    Fetch(Fetch),
    /// `Images::cancel` where nothing is under way: before anything was asked for, or after all has come.
    CancelNothing {
        which: Which,
        after: bool,
    },
    Watch(Watch),
    Close,
    Do(Deed),
}

/// What happens on the server's side, or to the transport.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// The image enters the catalog.
    Add(&'static str),
    /// Several at once.
    AddAll(&'static [&'static str]),
    Remove(&'static str),
    /// The same image gets another name.
    Rename(&'static str, &'static str),
    /// The image's body is held back no longer.
    Open(&'static str),
    /// The graceful shutdown has begun, and every connection was told.
    Shutdown,
    /// Nothing more comes to the client until the server has read what the client sends next.
    Hold,
    /// Nothing more comes to the client.
    Stall,
    /// The server is done with its connection.
    AwaitEnd,
    /// So much time passes: for clocks that are not to run.
    Outlast(Duration),
}

/// Which images are asked for.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    Get(Vec<&'static str>),
    Batch(Vec<&'static str>),
    /// All but those, and but so many that nobody has.
    BatchOf(Vec<&'static str>, u32),
    All,
}

/// Fetching images.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub(crate) which: Which,
    pub(crate) when: Vec<When>,
}

/// Once so many bytes of that image have come (0: its packet has begun), the application does this.
#[derive(Clone, Debug)]
pub(crate) struct When {
    pub(crate) name: &'static str,
    pub(crate) bytes: usize,
    pub(crate) act: Act,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// `Images::cancel`; the server has read it before anything more comes.
    Cancel,
    /// `Images::cancel`, where the server does not look for it yet.
    CancelFromAfar,
    /// Drops this image unread, and goes on to the next.
    Skip,
    /// Drops the whole request.
    Leave,
    Do(Deed),
}

/// Watching.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// `list_and_watch` rather than `watch`.
    pub(crate) list: bool,
    /// Whether the first step waits until the server watches. Not where that is what is tested.
    pub(crate) beacon: bool,
    pub(crate) then: Vec<Watching>,
}

#[derive(Clone, Debug)]
pub(crate) enum Watching {
    /// Waits for so many events, or for the error that ends the watch.
    Next(usize),
    Cancel,
    Do(Deed),
}

impl Script {
    /// A server that has these images.
    pub(crate) fn of<const N: usize>(pictures: [Picture; N]) -> Script {
        Script::of_all(pictures.into())
    }

    pub(crate) fn of_all(pictures: Vec<Picture>) -> Script {
        Script {
            setup: Setup {
                there: pictures.len(),
                pictures,
                server: ServerConfig::new(),
                client: ClientConfig::new(),
                keep_alive: true,
                retries: 0,
                catalog_limits: None,
                rate: None,
                max_connections: None,
                max_per_address: None,
                drain: crate::suite::PATIENCE,
                connect_timeout: Some(Duration::from_secs(10)),
                handshake: (Some(Duration::from_secs(10)), Some(Duration::from_secs(60))),
                refuse: |_| None,
                on_request: Vec::new(),
                undecoded: false,
                connects: false,
                unshaped: false,
                gates: Vec::new(),
                broken: Vec::new(),
                cut: Cut::default(),
            },
            steps: Vec::new(),
            must: Vec::new(),
        }
    }

    /// Images that are there only after [`Deed::Add`].
    pub(crate) fn later<const N: usize>(mut self, pictures: [Picture; N]) -> Script {
        self.setup.pictures.extend(pictures);
        self
    }

    /// Whether the server's shutdown is among what happens.
    pub(crate) fn shuts_down(&self) -> bool {
        let is_it = |deed: &Deed| matches!(deed, Deed::Shutdown);
        self.steps.iter().any(|step| match step {
            Step::Do(deed) => is_it(deed),
            Step::Fetch(fetch) => fetch
                .when
                .iter()
                .any(|when| matches!(&when.act, Act::Do(deed) if is_it(deed))),
            Step::Watch(watch) => watch
                .then
                .iter()
                .any(|then| matches!(then, Watching::Do(deed) if is_it(deed))),
            Step::List | Step::CancelNothing { .. } | Step::Close => false,
        })
    }

    pub(crate) fn setup(mut self, change: impl FnOnce(&mut Setup)) -> Script {
        change(&mut self.setup);
        self
    }

    /// A client that knows the server for one of ours. // R7
    pub(crate) fn pipelining(self) -> Script {
        self.setup(|setup| setup.client = setup.client.with_pipeline(true))
    }

    /// Its image `b.png` comes before the others.
    pub(crate) fn small_first(self) -> Script {
        self.then(Deed::Rename("b.png", "0.png"))
    }

    /// Says what has to be in the log.
    pub(crate) fn must(mut self, line: &'static str) -> Script {
        self.must.push(line);
        self
    }

    /// The body of that image is held back from this byte on.
    pub(crate) fn gate(mut self, name: &'static str, offset: u64) -> Script {
        self.setup.gates.push((name, offset));
        self
    }

    pub(crate) fn list(mut self) -> Script {
        self.steps.push(Step::List);
        self
    }

    pub(crate) fn get<const N: usize>(self, names: [&'static str; N]) -> Script {
        self.fetch(Which::Get(names.to_vec()), [])
    }

    /// Every image there ever is, by its ID.
    pub(crate) fn get_each<const N: usize>(self, when: [When; N]) -> Script {
        let names = self.setup.pictures.iter().map(|p| p.name).collect();
        self.fetch(Which::Get(names), when)
    }

    pub(crate) fn batch<const N: usize>(self, had: [&'static str; N]) -> Script {
        self.fetch(Which::Batch(had.to_vec()), [])
    }

    pub(crate) fn list_and_get(self) -> Script {
        self.fetch(Which::All, [])
    }

    pub(crate) fn fetch<const N: usize>(mut self, which: Which, when: [When; N]) -> Script {
        let when = when.into();
        self.steps.push(Step::Fetch(Fetch { which, when }));
        self
    }

    pub(crate) fn cancel_before(mut self, which: Which) -> Script {
        let after = false;
        self.steps.push(Step::CancelNothing { which, after });
        self
    }

    pub(crate) fn cancel_after(mut self, which: Which) -> Script {
        let after = true;
        self.steps.push(Step::CancelNothing { which, after });
        self
    }

    pub(crate) fn watch<const N: usize>(self, then: [Watching; N]) -> Script {
        self.watching(false, true, then)
    }

    pub(crate) fn list_and_watch<const N: usize>(self, then: [Watching; N]) -> Script {
        self.watching(true, true, then)
    }

    pub(crate) fn watching<const N: usize>(
        mut self,
        list: bool,
        beacon: bool,
        then: [Watching; N],
    ) -> Script {
        let then = then.into();
        self.steps.push(Step::Watch(Watch { list, beacon, then }));
        self
    }

    pub(crate) fn then(mut self, deed: Deed) -> Script {
        self.steps.push(Step::Do(deed));
        self
    }

    pub(crate) fn close(mut self) -> Script {
        self.steps.push(Step::Close);
        self
    }
}

pub(crate) fn when(name: &'static str, bytes: usize, act: Act) -> When {
    When { name, bytes, act }
}

/// A deadline that runs out while others do not: what it leads to tells which one it was.
pub(crate) const SOON: Option<Duration> = Some(Duration::from_millis(60));

/// The same where bytes have to move before it runs out, also on a machine that has much to do.
pub(crate) const LATER: Option<Duration> = Some(Duration::from_millis(600));
