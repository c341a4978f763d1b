//! What wakes connections that watch. // N1

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use jtp_core::Catalog;
use jtp_store::{LiveCatalog, Watch};

use super::Rung;
use crate::runtime::Bell;

/// One bell for all watchers: a runtime may need more for a bell than for one more task that waits for it.
/// After it has rung the next to ask gets a new one.
pub(super) struct Newsroom<B>(Mutex<Option<Edition<B>>>);

struct Edition<B> {
    bell: Arc<B>,
    /// Rings the bell. It is polled once, then kept, and once more when it has rung.
    listening: Option<Pin<Box<dyn Future<Output = Arc<Catalog>> + Send>>>,
}

struct Ring<B>(Arc<B>);

impl<B: Bell> Wake for Ring<B> {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }
}

impl<B> Default for Newsroom<B> {
    fn default() -> Self {
        Newsroom(Mutex::new(None))
    }
}

impl<B> fmt::Debug for Newsroom<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newsroom").finish_non_exhaustive()
    }
}

impl<B: Bell> Newsroom<B> {
    /// A bell that rings at the next change of the catalog: ask for it first, then look.
    fn bell(&self, live: &LiveCatalog) -> io::Result<Arc<B>> {
        let mut edition = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *edition {
            Some(edition) if !edition.bell.is_rung() => return Ok(Arc::clone(&edition.bell)),
            Some(Edition {
                listening: Some(listening),
                ..
            }) => {
                // Dropped without having looked, it would pass the news on, and ring the next bell with it.
                let _ = listening
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()));
            }
            _ => {}
        }
        *edition = None;
        let bell = Arc::new(B::new()?);
        let mut watch = live.watch();
        let mut listening = Box::pin(async move { watch.changed().await });
        let waker = Waker::from(Arc::new(Ring(Arc::clone(&bell))));
        let changed = listening.as_mut().poll(&mut Context::from_waker(&waker));
        if changed.is_ready() {
            bell.ring();
        }
        *edition = Some(Edition {
            bell: Arc::clone(&bell),
            listening: changed.is_pending().then_some(listening as _),
        });
        Ok(bell)
    }
}

/// What a watching connection waits for.
pub(super) struct News {
    watch: Watch,
    rung: Option<Rung>,
}

impl News {
    pub(super) fn since(live: &LiveCatalog, generation: u64) -> News {
        News {
            watch: live.watch_since(generation),
            rung: None,
        }
    }

    /// The next catalog that is a later one than was seen.
    pub(super) fn poll<B: Bell>(
        &mut self,
        cx: &mut Context<'_>,
        newsroom: &Newsroom<B>,
        live: &LiveCatalog,
    ) -> Poll<io::Result<Arc<Catalog>>> {
        loop {
            if let Some(rung) = &mut self.rung {
                ready!(rung.as_mut().poll(cx));
            }
            self.rung = Some(Box::pin(newsroom.bell(live)?.rung()));
            if let Some(catalog) = self.watch.try_changed() {
                return Poll::Ready(Ok(catalog));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jtp_core::{FileType, Flags, Image, ImageId};

    use super::*;
    use crate::EventBell;

    fn change(live: &LiveCatalog, n: u64) {
        let flags = Flags::new(FileType::Png, false);
        let image = Image::new(ImageId(n), flags, 1);
        live.edit(|writer| writer.insert(&format!("{n}.png"), image).unwrap());
    }

    #[test]
    fn each_bell_rings_with_the_next_change_and_not_before() {
        let live = LiveCatalog::new();
        let rooms: [Newsroom<EventBell>; 2] = Default::default();
        for n in 0..4 {
            let bells: Vec<_> = rooms.iter().map(|room| room.bell(&live).unwrap()).collect();
            // All the rooms have done with the change before, and none has woken another.
            assert!(!bells.iter().any(|bell| bell.is_rung()));
            change(&live, n);
            assert!(bells.iter().all(|bell| bell.is_rung()));
        }
    }

    #[test]
    fn n1_news_is_told_once_and_then_waited_for() {
        let live = LiveCatalog::new();
        let room: Newsroom<EventBell> = Newsroom::default();
        let mut news = [(); 2].map(|()| News::since(&live, live.snapshot().generation()));
        let mut cx = Context::from_waker(Waker::noop());
        for n in 0..4 {
            change(&live, n);
            for news in &mut news {
                let Poll::Ready(Ok(catalog)) = news.poll(&mut cx, &room, &live) else {
                    panic!("no news");
                };
                assert_eq!(catalog.len() as u64, n + 1);
                assert!(news.poll(&mut cx, &room, &live).is_pending());
            }
        }
    }
}
