//! The number of TLS handshakes that are processed at a time, and whose turn is next. // T8
//!
//! A handshake costs the server up to a millisecond of a processor, and the client nothing if it repeats an old
//! ClientHello. Without a limit, thousands of them would fill the run queue of the executor, and each request would wait
//! behind all of them.
//!
//! A handshake takes a place when it has bytes to process, and gives it back as soon as it waits for its client. A
//! client that sends half a ClientHello therefore occupies no place. Clients take turns: the first handshake of one
//! waits for at most one handshake of each other client, not for all of them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use super::ClientId;

/// Limits the handshakes that are processed at a time.
#[derive(Debug)]
pub(in crate::server) struct HandshakeLimiter {
    max: Option<NonZeroUsize>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The number of places that are taken.
    running: usize,
    waiting: usize,
    /// In the order in which they came. No entry is empty.
    by_client: HashMap<Option<ClientId>, VecDeque<Arc<Waiting>>>,
    /// The clients of `by_client`, the next one first.
    rotation: VecDeque<Option<ClientId>>,
}

#[derive(Debug)]
struct Waiting {
    granted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// A place, or the wait for one. Dropping it lets another handshake continue.
struct Place<'a> {
    limiter: &'a HandshakeLimiter,
    client: Option<ClientId>,
    waiting: Arc<Waiting>,
}

impl HandshakeLimiter {
    pub(in crate::server) fn new(max: Option<NonZeroUsize>) -> HandshakeLimiter {
        HandshakeLimiter {
            max,
            queue: Mutex::default(),
        }
    }

    /// The number of handshakes that have bytes to process and wait for a place.
    pub(in crate::server) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Performs a handshake, each part of it once a place is free. Clients without an address share one turn.
    ///
    /// The task must be polled when it is woken: a place is held from then on.
    pub(in crate::server) async fn run<T>(
        &self,
        client: Option<ClientId>,
        handshake: impl Future<Output = T>,
    ) -> T {
        let mut handshake = pin!(handshake);
        if self.max.is_none() {
            return handshake.await;
        }
        let mut place: Option<Place<'_>> = None;
        std::future::poll_fn(|cx| {
            let Some(joined) = &place else {
                // Even if a place is free, it continues when it is woken: behind the tasks that are ready now, so that
                // a burst of handshakes does not run ahead of requests.
                place = Some(self.join(client, cx.waker()));
                return Poll::Pending;
            };
            ready!(joined.poll(cx));
            let polled = handshake.as_mut().poll(cx);
            // It waits for its client, or has ended.
            place = None;
            polled
        })
        .await
    }

    fn join(&self, client: Option<ClientId>, waker: &Waker) -> Place<'_> {
        let waiting = Arc::new(Waiting {
            granted: AtomicBool::new(false),
            waker: Mutex::new(Some(waker.clone())),
        });
        let mut queue = self.lock();
        let of_client = queue.by_client.entry(client).or_default();
        of_client.push_back(Arc::clone(&waiting));
        if of_client.len() == 1 {
            queue.rotation.push_back(client);
        }
        queue.waiting += 1;
        self.grant(queue);
        Place {
            limiter: self,
            client,
            waiting,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a free place to the next handshake.
    fn grant(&self, mut queue: MutexGuard<'_, Queue>) {
        if self.max.is_some_and(|max| queue.running >= max.get()) {
            return;
        }
        let Some(next) = queue.pop() else {
            return;
        };
        queue.running += 1;
        next.granted.store(true, Ordering::Release);
        drop(queue); // A waker may do anything.
        let waker = next.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Queue {
    /// The first handshake of the client whose turn it is.
    fn pop(&mut self) -> Option<Arc<Waiting>> {
        let client = self.rotation.pop_front()?;
        let of_client = self.by_client.get_mut(&client)?;
        let next = of_client.pop_front()?;
        if of_client.is_empty() {
            self.by_client.remove(&client);
        } else {
            self.rotation.push_back(client);
        }
        self.waiting -= 1;
        Some(next)
    }

    fn remove(&mut self, client: Option<ClientId>, waiting: &Arc<Waiting>) {
        let Some(of_client) = self.by_client.get_mut(&client) else {
            return;
        };
        of_client.retain(|other| !Arc::ptr_eq(other, waiting));
        self.waiting -= 1;
        if of_client.is_empty() {
            self.by_client.remove(&client);
            self.rotation.retain(|other| *other != client);
        }
    }
}

impl Waiting {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_granted(&self) -> bool {
        self.granted.load(Ordering::Acquire)
    }
}

impl Place<'_> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting.is_granted() {
            let mut waker = self.waiting.waker();
            if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        // It may have been granted before the waker was stored.
        if self.waiting.is_granted() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.limiter.lock();
        if self.waiting.is_granted() {
            queue.running -= 1;
        } else {
            queue.remove(self.client, &self.waiting);
        }
        self.limiter.grant(queue);
    }
}

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.waiting).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;
    use crate::BoxFuture;

    /// An executor with one thread: tasks run in the order in which they were woken.
    #[derive(Default)]
    struct Executor {
        ready: Arc<Mutex<VecDeque<usize>>>,
        tasks: Vec<Option<BoxFuture<()>>>,
        log: Arc<Mutex<Vec<&'static str>>>,
    }

    struct Task(Arc<Mutex<VecDeque<usize>>>, usize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().push_back(self.1);
        }
    }

    impl Executor {
        fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> usize {
            self.tasks.push(Some(Box::pin(task)));
            let number = self.tasks.len() - 1;
            self.ready.lock().unwrap().push_back(number);
            number
        }

        /// A handshake of `client` that is processed once, and then waits for its client forever.
        fn handshake(
            &mut self,
            limiter: &Arc<HandshakeLimiter>,
            client: u8,
            name: &'static str,
        ) -> usize {
            let (limiter, log) = (Arc::clone(limiter), Arc::clone(&self.log));
            let client = ClientId::at([192, 0, 2, client].into());
            let mut first = true;
            let handshake = std::future::poll_fn(move |_| {
                if std::mem::replace(&mut first, false) {
                    log.lock().unwrap().push(name);
                }
                Poll::Pending
            });
            self.spawn(async move { limiter.run(Some(client), handshake).await })
        }

        fn request(&mut self) {
            let log = Arc::clone(&self.log);
            self.spawn(async move { log.lock().unwrap().push("request") });
        }

        fn run(&mut self) {
            loop {
                let Some(number) = self.ready.lock().unwrap().pop_front() else {
                    return;
                };
                let waker = Waker::from(Arc::new(Task(Arc::clone(&self.ready), number)));
                if let Some(task) = &mut self.tasks[number] {
                    if task
                        .as_mut()
                        .poll(&mut Context::from_waker(&waker))
                        .is_ready()
                    {
                        self.tasks[number] = None;
                    }
                }
            }
        }

        fn log(&self) -> Vec<&'static str> {
            std::mem::take(&mut *self.log.lock().unwrap())
        }
    }

    fn limiter(max: usize) -> Arc<HandshakeLimiter> {
        Arc::new(HandshakeLimiter::new(NonZeroUsize::new(max)))
    }

    #[track_caller]
    fn assert_free(limiter: &HandshakeLimiter) {
        let queue = limiter.lock();
        assert!(queue.running == 0 && queue.waiting == 0);
        assert!(queue.by_client.is_empty() && queue.rotation.is_empty());
    }

    #[test]
    fn t8_a_request_waits_for_no_more_handshakes_than_the_limit() {
        let (limiter, mut executor) = (limiter(4), Executor::default());
        for _ in 0..3_000 {
            executor.handshake(&limiter, 1, "handshake");
        }
        executor.request();
        executor.run();
        let log = executor.log();
        assert_eq!(log.len(), 3_001);
        let before = log.iter().position(|entry| *entry == "request").unwrap();
        assert!(before <= 4, "{before} handshakes before the request");
        assert_free(&limiter);
    }

    #[test]
    fn t8_without_a_limit_a_request_waits_for_all_handshakes() {
        let (limiter, mut executor) = (limiter(0), Executor::default());
        for _ in 0..100 {
            executor.handshake(&limiter, 1, "handshake");
        }
        executor.request();
        executor.run();
        assert_eq!(executor.log()[100], "request");
    }

    #[test]
    fn t8_clients_take_turns_however_many_handshakes_one_has() {
        let (limiter, mut executor) = (limiter(2), Executor::default());
        for _ in 0..3_000 {
            executor.handshake(&limiter, 1, "flood");
        }
        for _ in 0..3 {
            executor.handshake(&limiter, 2, "second");
        }
        executor.handshake(&limiter, 3, "third");
        executor.run();
        let log = executor.log();
        assert_eq!(log.len(), 3_004);
        let honest: Vec<usize> = (0..log.len()).filter(|n| log[*n] != "flood").collect();
        // Two were granted before the others came, and one of each client in turn after that.
        assert_eq!(honest, [3, 4, 6, 8]);
        assert_free(&limiter);
    }

    #[test]
    fn t8_a_handshake_that_waits_for_its_client_takes_no_place() {
        let (limiter, mut executor) = (limiter(1), Executor::default());
        let slow: Vec<usize> = (0..10)
            .map(|_| executor.handshake(&limiter, 1, "slow"))
            .collect();
        executor.run();
        assert_free(&limiter);
        executor.handshake(&limiter, 2, "other");
        // Woken without a byte.
        executor.ready.lock().unwrap().extend(slow);
        executor.run();
        assert_eq!(executor.log().last(), Some(&"other"));
        assert_free(&limiter);
    }

    #[test]
    fn t8_a_dropped_handshake_returns_its_place() {
        let (limiter, mut executor) = (limiter(1), Executor::default());
        let tasks: Vec<usize> = (0..4)
            .map(|n| executor.handshake(&limiter, n / 2, "handshake"))
            .collect();
        // Each joins the queue, and none is processed.
        let joined: Vec<usize> = executor.ready.lock().unwrap().drain(..).collect();
        for number in joined {
            let waker = Waker::from(Arc::new(Task(Arc::clone(&executor.ready), number)));
            let task = executor.tasks[number].as_mut().unwrap();
            let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        assert_eq!(limiter.waiting(), 3);
        executor.tasks[tasks[1]] = None; // It waits,
        executor.tasks[tasks[0]] = None; // and this one has the place.
        assert_eq!(limiter.waiting(), 1);
        executor.run();
        assert_eq!(executor.log().len(), 2);
        assert_free(&limiter);
    }
}
