//! Runs the requests of one connection on all threads of a runtime.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::oneshot;
use futures_util::future::{AbortHandle, abortable};
use jtp_driver::store::BoxFuture;

/// Starts tasks of a runtime. Without one, what a connection requests is polled by that connection's task: by one thread.
#[derive(Clone, Default)]
pub(crate) struct Spawner(Option<Arc<dyn Fn(BoxFuture<()>) + Send + Sync>>);

impl Spawner {
    pub(crate) fn new(spawn: impl Fn(BoxFuture<()>) + Send + Sync + 'static) -> Spawner {
        Spawner(Some(Arc::new(spawn)))
    }

    /// Runs `work` as a task, which ends early if the returned future is dropped. `None` if the runtime has dropped it.
    pub(crate) fn run<T: Send + 'static>(&self, work: BoxFuture<T>) -> BoxFuture<Option<T>> {
        let Some(spawn) = &self.0 else {
            return Box::pin(async { Some(work.await) });
        };
        let (sender, result) = oneshot::channel();
        let (task, abort) = abortable(async move {
            let _ = sender.send(work.await);
        });
        spawn(Box::pin(async {
            let _ = task.await;
        }));
        Box::pin(Task { result, abort })
    }
}

/// The result of a task.
struct Task<T> {
    result: oneshot::Receiver<T>,
    abort: AbortHandle,
}

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.result).poll(cx).map(Result::ok)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A runtime that keeps its tasks, and the spawner of it.
    fn runtime() -> (Arc<Mutex<Vec<BoxFuture<()>>>>, Spawner) {
        let tasks = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&tasks);
        (
            tasks,
            Spawner::new(move |task| kept.lock().unwrap().push(task)),
        )
    }

    #[test]
    fn work_is_done_by_its_task() {
        let (tasks, spawner) = runtime();
        let result = spawner.run(Box::pin(async { 7 }));
        for task in tasks.lock().unwrap().drain(..) {
            smol::block_on(task);
        }
        assert_eq!(smol::block_on(result), Some(7));
    }

    #[test]
    fn work_that_nobody_waits_for_ends() {
        let (tasks, spawner) = runtime();
        drop(spawner.run(Box::pin(std::future::pending::<()>())));
        for task in tasks.lock().unwrap().drain(..) {
            smol::block_on(task); // would wait without end
        }
    }

    #[test]
    fn work_whose_task_is_dropped_has_no_result() {
        let spawner = Spawner::new(drop);
        assert_eq!(smol::block_on(spawner.run(Box::pin(async { 7 }))), None);
    }
}
