//! The language of scenarios. [`play`](super::play) executes it.

use std::time::Duration;

use jtp_core::ImageId;
use jtp_core::client::ClientConfig;
use jtp_core::server::ServerConfig;
use jtp_core::wire::request::RequestHead;
use jtp_core::wire::response::ErrorCode;

use jtp_kit::bmp;

use super::log::Log;
use crate::support::files::noise;

/// An image of a script, identified by name.
#[derive(Clone, Debug)]
pub(crate) struct ScriptImage {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Sent compressed. // S9
    pub(crate) compressed: bool,
    /// Listed under an ID that does not match its bytes.
    pub(crate) wrong_id: bool,
}

/// An image of `len` bytes that is sent uncompressed.
pub(crate) fn png(name: &'static str, len: usize) -> ScriptImage {
    let seed = ImageId::of(name.as_bytes()).0;
    ScriptImage {
        name,
        bytes: noise(len, seed),
        compressed: false,
        wrong_id: false,
    }
}

/// An image of `len` bytes that is sent compressed.
pub(crate) fn compressed(name: &'static str, len: usize) -> ScriptImage {
    let [seed, ..] = ImageId::of(name.as_bytes()).to_be_bytes();
    ScriptImage {
        name,
        bytes: bmp(len, seed),
        compressed: true,
        wrong_id: false,
    }
}

/// `count` small images, with names in order.
pub(crate) fn small_images(count: usize) -> Vec<ScriptImage> {
    let name = |n: usize| -> &'static str { Box::leak(format!("{n:04}.png").into_boxed_str()) };
    (0..count).map(|n| png(name(n), 8 + n % 40)).collect()
}

/// An image of `len` bytes that do not match its ID. It is sent compressed: the server would not complete the packet of
/// a raw one. // S13
pub(crate) fn wrong_id(name: &'static str, len: usize) -> ScriptImage {
    ScriptImage {
        wrong_id: true,
        ..compressed(name, len)
    }
}

/// The code and message with which the application refuses a request.
pub(crate) type Refusal = (ErrorCode, &'static str);

/// The settings of a script.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// All images of the script.
    pub(crate) images: Vec<ScriptImage>,
    /// How many of them, from the first, are in the catalog at the start.
    pub(crate) initial: usize,
    pub(crate) server: ServerConfig,
    pub(crate) client: ClientConfig,
    pub(crate) keep_alive: bool,
    pub(crate) retries: u32,
    pub(crate) catalog_limits: Option<(usize, usize)>,
    /// The maximum number of requests per hour.
    pub(crate) rate: Option<u32>,
    /// The maximum number of connections in total.
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_per_address: Option<usize>,
    pub(crate) max_watchers: Option<usize>,
    pub(crate) max_handshakes: Option<usize>,
    /// How long requests in progress may take after the shutdown begins.
    pub(crate) drain: Duration,
    /// The client's timeout for connecting, and for the TLS handshake.
    pub(crate) connect_timeout: Option<Duration>,
    /// The server's timeouts for a TLS handshake and for its first byte.
    pub(crate) handshake: (Option<Duration>, Option<Duration>),
    /// The application's decision on each request; `None` accepts it.
    pub(crate) refuse: fn(&RequestHead) -> Option<Refusal>,
    /// Actions performed when the request handler first sees a request of that kind.
    pub(crate) on_request: Vec<(&'static str, ServerAction)>,
    /// The client must be able to reconnect: no run over memory.
    pub(crate) connects: bool,
    /// The client's application decodes images itself. The log is the same.
    pub(crate) undecoded: bool,
    /// The outcome depends on what the server reads at once: no run with a shape.
    pub(crate) unshaped: bool,
    /// Images whose bodies are held back from this byte on, until [`ServerAction::OpenGate`].
    pub(crate) gates: Vec<(&'static str, u64)>,
    /// Images that cannot be read from this byte on; `None`: they cannot be opened.
    pub(crate) broken: Vec<(&'static str, Option<u64>)>,
    /// The number of bytes after which each direction of the only connection ends.
    pub(crate) cut: Cut,
}

/// How many bytes pass before the direction ends; `None`: all.
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
    /// Makes the timeout under test longer, for a machine that was too busy for it.
    pub(crate) longer: Option<fn(&mut Setup)>,
    /// Texts that the log must contain, so that no scenario silently tests something else.
    pub(crate) expected_log: Vec<&'static str>,
}

/// A call of the client's API, or an action in its environment.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    List,
    Fetch(FetchStep),
    /// `Images::cancel` without a request in progress: before the request, or after its response.
    CancelIdle {
        selection: Selection,
        after: bool,
    },
    Watch(WatchStep),
    Close,
    Do(ServerAction),
}

/// An action on the server's side or on the transport.
#[derive(Clone, Debug)]
pub(crate) enum ServerAction {
    /// Adds the image to the catalog.
    Add(&'static str),
    /// Adds several images in one edit.
    AddAll(&'static [&'static str]),
    Remove(&'static str),
    /// Gives the image another name.
    Rename(&'static str, &'static str),
    /// Releases the image's body. See [`Script::gate`].
    OpenGate(&'static str),
    /// Begins the graceful shutdown, and waits until the connections are notified.
    Shutdown,
    /// Delivers nothing more to the client until the server has read what the client sends next.
    Hold,
    /// Delivers nothing more to the client.
    Stall,
    /// Waits until the server has closed its connections.
    AwaitClosed,
    /// Waits for this time, to show that a timeout does not fire.
    Wait(Duration),
}

/// Which images a fetch requests.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    Get(Vec<&'static str>),
    Batch(Vec<&'static str>),
    /// A BATCH whose have list names these images and this many IDs that the server does not have.
    BatchOf(Vec<&'static str>, u32),
    All,
}

/// A fetch, and what happens meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct FetchStep {
    pub(crate) selection: Selection,
    pub(crate) triggers: Vec<Trigger>,
}

/// An action that the client's application performs once `bytes` bytes of the image have arrived (0: its packet has
/// begun).
#[derive(Clone, Debug)]
pub(crate) struct Trigger {
    pub(crate) name: &'static str,
    pub(crate) bytes: usize,
    pub(crate) action: ClientAction,
}

#[derive(Clone, Debug)]
pub(crate) enum ClientAction {
    /// `Images::cancel`. The server reads it before it sends more.
    Cancel,
    /// `Images::cancel`, sent while the server does not read it yet.
    CancelUnread,
    /// Drops this image unread, and continues with the next.
    Skip,
    /// Drops the whole request.
    Drop,
    Do(ServerAction),
}

/// A watch, and what happens meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct WatchStep {
    /// `list_and_watch` rather than `watch`.
    pub(crate) list: bool,
    /// Waits until the server has accepted the watch before the first action.
    pub(crate) probe: bool,
    pub(crate) actions: Vec<WatchAction>,
}

#[derive(Clone, Debug)]
pub(crate) enum WatchAction {
    /// Waits for this many events, or for the error that ends the watch.
    Receive(usize),
    Cancel,
    Do(ServerAction),
}

impl Script {
    /// A script whose server has these images.
    pub(crate) fn of<const N: usize>(images: [ScriptImage; N]) -> Script {
        Script::of_all(images.into())
    }

    pub(crate) fn of_all(images: Vec<ScriptImage>) -> Script {
        Script {
            setup: Setup {
                initial: images.len(),
                images,
                server: ServerConfig::new(),
                client: ClientConfig::new(),
                keep_alive: true,
                retries: 0,
                catalog_limits: None,
                rate: None,
                max_connections: None,
                max_per_address: None,
                max_watchers: None,
                max_handshakes: None,
                drain: crate::suite::TEST_TIMEOUT,
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
            longer: None,
            expected_log: Vec::new(),
        }
    }

    /// Adds images that enter the catalog only by [`ServerAction::Add`].
    pub(crate) fn later<const N: usize>(mut self, images: [ScriptImage; N]) -> Script {
        self.setup.images.extend(images);
        self
    }

    pub(crate) fn setup(mut self, change: impl FnOnce(&mut Setup)) -> Script {
        change(&mut self.setup);
        self
    }

    /// Runs that differ are repeated once with this change.
    pub(crate) fn or_longer(mut self, change: fn(&mut Setup)) -> Script {
        self.longer = Some(change);
        self
    }

    /// Lets the client pipeline requests. // R7
    pub(crate) fn pipelining(self) -> Script {
        self.setup(|setup| setup.client = setup.client.with_pipeline(true))
    }

    /// Renames `b.png`, so that it is sent first.
    pub(crate) fn small_first(self) -> Script {
        self.then(ServerAction::Rename("b.png", "0.png"))
    }

    /// Requires that the log contains this text.
    pub(crate) fn expect_log(mut self, line: &'static str) -> Script {
        self.expected_log.push(line);
        self
    }

    /// Checks that the reference's log has what the scenario is about.
    pub(crate) fn check_expected(&self, name: &str, log: &Log) {
        for line in &self.expected_log {
            assert!(log.has(line), "{name}: no {line:?} in {log:#?}");
        }
    }

    /// Holds the image's body back from this byte on.
    pub(crate) fn gate(mut self, name: &'static str, offset: u64) -> Script {
        self.setup.gates.push((name, offset));
        self
    }

    pub(crate) fn list(mut self) -> Script {
        self.steps.push(Step::List);
        self
    }

    pub(crate) fn get<const N: usize>(self, names: [&'static str; N]) -> Script {
        self.fetch(Selection::Get(names.to_vec()), [])
    }

    /// Requests every image of the script by ID.
    pub(crate) fn get_each<const N: usize>(self, triggers: [Trigger; N]) -> Script {
        let names = self.setup.images.iter().map(|image| image.name).collect();
        self.fetch(Selection::Get(names), triggers)
    }

    pub(crate) fn batch<const N: usize>(self, have: [&'static str; N]) -> Script {
        self.fetch(Selection::Batch(have.to_vec()), [])
    }

    pub(crate) fn list_and_get(self) -> Script {
        self.fetch(Selection::All, [])
    }

    pub(crate) fn fetch<const N: usize>(
        mut self,
        selection: Selection,
        triggers: [Trigger; N],
    ) -> Script {
        let triggers = triggers.into();
        self.steps.push(Step::Fetch(FetchStep {
            selection,
            triggers,
        }));
        self
    }

    pub(crate) fn cancel_before(mut self, selection: Selection) -> Script {
        let after = false;
        self.steps.push(Step::CancelIdle { selection, after });
        self
    }

    pub(crate) fn cancel_after(mut self, selection: Selection) -> Script {
        let after = true;
        self.steps.push(Step::CancelIdle { selection, after });
        self
    }

    pub(crate) fn watch<const N: usize>(self, actions: [WatchAction; N]) -> Script {
        self.watch_with(false, true, actions)
    }

    pub(crate) fn list_and_watch<const N: usize>(self, actions: [WatchAction; N]) -> Script {
        self.watch_with(true, true, actions)
    }

    pub(crate) fn watch_with<const N: usize>(
        mut self,
        list: bool,
        probe: bool,
        actions: [WatchAction; N],
    ) -> Script {
        let actions = actions.into();
        self.steps.push(Step::Watch(WatchStep {
            list,
            probe,
            actions,
        }));
        self
    }

    pub(crate) fn then(mut self, action: ServerAction) -> Script {
        self.steps.push(Step::Do(action));
        self
    }

    pub(crate) fn close(mut self) -> Script {
        self.steps.push(Step::Close);
        self
    }
}

pub(crate) fn trigger(name: &'static str, bytes: usize, action: ClientAction) -> Trigger {
    Trigger {
        name,
        bytes,
        action,
    }
}

/// A short timeout, for the one that is to fire.
pub(crate) const SHORT: Option<Duration> = Some(Duration::from_millis(60));

/// A short timeout that still leaves a busy machine the time to transfer some bytes.
pub(crate) const MEDIUM: Option<Duration> = Some(Duration::from_millis(600));
