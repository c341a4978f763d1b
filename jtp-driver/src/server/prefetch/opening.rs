//! Calls to a store that open the next images of a response.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use jtp_core::Image;

use super::budget::Reserved;
use crate::BoxFuture;
use crate::store::{OpenImage, StoreError};

/// The calls that are under way, and the images that they have opened, in the order of the response.
pub(super) struct Openings {
    calls: VecDeque<Opening>,
    task: Arc<Task>,
}

/// A call to open images, in the order of the response, with the memory that is reserved for them.
struct Opening {
    call: Call,
    progress: Arc<Progress>,
    reserved: Option<Arc<Reserved>>,
}

/// Whether a call can go on. Of a hundred calls under way only those are polled that can.
struct Progress {
    is_woken: AtomicBool,
    task: Arc<Task>,
}

/// The connection's task.
struct Task(Mutex<Waker>);

impl Task {
    fn set(&self, waker: &Waker) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone_from(waker);
    }
}

impl Wake for Progress {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Before the waker is read: a task that replaces it looks at the calls afterwards.
        self.is_woken.store(true, Ordering::Release);
        let task = self.task.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = task.clone();
        drop(task); // A waker may do anything.
        waker.wake();
    }
}

pub(super) enum Call {
    One(Image, BoxFuture<Result<OpenImage, StoreError>>),
    Many(Vec<Image>, BoxFuture<Vec<Result<OpenImage, StoreError>>>),
    Done(Image, Result<OpenImage, StoreError>),
}

/// The result of opening an image, with the memory that is reserved for it.
type Opened = (Result<OpenImage, StoreError>, Option<Arc<Reserved>>);

impl Opening {
    fn is_pending(&self) -> bool {
        matches!(self.call, Call::One(..) | Call::Many(..))
    }

    fn images(&self) -> &[Image] {
        match &self.call {
            Call::One(image, _) | Call::Done(image, _) => std::slice::from_ref(image),
            Call::Many(images, _) => images,
        }
    }
}

impl Openings {
    pub(super) fn new() -> Openings {
        Openings {
            calls: VecDeque::new(),
            task: Arc::new(Task(Mutex::new(Waker::noop().clone()))),
        }
    }

    /// Abandons all calls, and frees their memory.
    pub(super) fn clear(&mut self) {
        self.calls = VecDeque::new();
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether the last call is still under way.
    pub(super) fn is_last_pending(&self) -> bool {
        self.calls.back().is_some_and(Opening::is_pending)
    }

    pub(super) fn images(&self) -> impl Iterator<Item = &Image> {
        self.calls.iter().flat_map(Opening::images)
    }

    pub(super) fn start(&mut self, call: Call, reserved: Option<Arc<Reserved>>) {
        let progress = Arc::new(Progress {
            is_woken: AtomicBool::new(true),
            task: Arc::clone(&self.task),
        });
        self.calls.push_back(Opening {
            call,
            progress,
            reserved,
        });
    }

    /// The result for the first image, with the memory that is reserved for it, if there is one.
    pub(super) fn take_done(&mut self) -> Option<Opened> {
        match self.calls.pop_front()? {
            Opening {
                call: Call::Done(_, result),
                reserved,
                ..
            } => Some((result, reserved)),
            pending => {
                self.calls.push_front(pending);
                None
            }
        }
    }

    /// Polls the calls that are under way. `Ready` once the first image is open, or failed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.task.set(cx.waker());
        let mut at = 0;
        while let Some(opening) = self.calls.get_mut(at) {
            if !opening.progress.is_woken.swap(false, Ordering::AcqRel) {
                at += 1;
                continue;
            }
            let waker = Waker::from(Arc::clone(&opening.progress));
            let cx = &mut Context::from_waker(&waker);
            match &mut opening.call {
                Call::One(image, future) => {
                    if let Poll::Ready(result) = future.as_mut().poll(cx) {
                        opening.call = Call::Done(*image, result);
                    }
                }
                Call::Many(images, future) => {
                    if let Poll::Ready(mut results) = future.as_mut().poll(cx) {
                        let images = std::mem::take(images);
                        if results.is_empty() {
                            // At least the first image has a result.
                            let gone = images.iter().map(|image| StoreError::Gone(image.id));
                            results.extend(gone.map(Err).take(1));
                        }
                        let reserved = opening.reserved.take();
                        let progress = Arc::clone(&opening.progress);
                        let done = images.into_iter().zip(results);
                        let done = done.map(|(image, result)| Opening {
                            call: Call::Done(image, result),
                            progress: Arc::clone(&progress),
                            reserved: reserved.clone(),
                        });
                        let rest = self.calls.split_off(at + 1);
                        self.calls.truncate(at);
                        self.calls.extend(done);
                        at = self.calls.len();
                        self.calls.extend(rest);
                        continue;
                    }
                }
                Call::Done(..) => {}
            }
            at += 1;
        }
        match self.calls.front().is_some_and(Opening::is_pending) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}
