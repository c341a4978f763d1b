use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::task::Wake;

use super::*;

/// Far more than a test takes.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs `future`, and panics if that takes longer than [`LIMIT`].
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut limit = Sleep::until(Instant::now() + LIMIT);
    block_on(poll_fn(|cx| {
        assert!(Pin::new(&mut limit).poll(cx).is_pending(), "a wake is lost");
        future.as_mut().poll(cx)
    }))
}

/// A flag that a future waits for.
#[derive(Default)]
struct Flag {
    is_set: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Flag {
    fn set(&self) {
        self.is_set.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().unwrap().take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            match self.is_set.load(Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

fn sleep_ms(milliseconds: u64) -> Sleep {
    Sleep::until(Instant::now() + Duration::from_millis(milliseconds))
}

fn pair() -> (TcpStream, Arc<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    (far, Arc::new(near))
}

async fn read_byte(stream: &Arc<TcpStream>) -> u8 {
    let mut byte = [0];
    let read =
        |cx: &mut Context<'_>| attempt(stream, PollFlags::IN, cx, || (&**stream).read(&mut byte));
    assert_eq!(poll_fn(read).await.unwrap(), 1);
    byte[0]
}

fn registrations() -> (usize, usize) {
    REGISTRY.with_borrow(|registry| (registry.interests.len(), registry.timers.len()))
}

#[test]
fn no_message_of_a_channel_with_many_senders_is_lost() {
    const SENDERS: usize = 8;
    const MESSAGES: usize = 5000;
    type Channel = Mutex<(VecDeque<usize>, Option<Waker>)>;
    let channel: Arc<Channel> = Arc::default();
    let senders = (0..SENDERS).map(|sender| {
        let channel = Arc::clone(&channel);
        thread::spawn(move || {
            for message in 0..MESSAGES {
                let mut channel = channel.lock().unwrap();
                channel.0.push_back(message);
                let waker = channel.1.take();
                drop(channel);
                waker.into_iter().for_each(Waker::wake);
                if message % 64 == sender {
                    thread::sleep(Duration::from_micros(100)); // The receiver catches up, and waits.
                }
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    let receive = || {
        run(poll_fn(|cx| {
            let mut channel = channel.lock().unwrap();
            let message = channel.0.pop_front();
            if message.is_none() {
                channel.1 = Some(cx.waker().clone());
            }
            message.map_or(Poll::Pending, Poll::Ready)
        }))
    };
    let sum: usize = (0..SENDERS * MESSAGES).map(|_| receive()).sum();
    assert_eq!(sum, SENDERS * MESSAGES * (MESSAGES - 1) / 2);
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
}

#[test]
fn wakes_while_the_future_is_polled_make_no_system_call() {
    let before = PARKER.with(|parker| parker.writes());
    let mut polls = 0;
    run(poll_fn(|cx| {
        polls += 1;
        (0..1000).for_each(|_| cx.waker().wake_by_ref());
        if polls < 3 {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }));
    assert_eq!(polls, 3);
    assert_eq!(PARKER.with(|parker| parker.writes()), before);
}

#[test]
fn a_waker_that_outlives_its_future_or_its_thread_is_harmless() {
    let waker = || block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
    let own = waker();
    own.wake_by_ref();
    run(sleep_ms(1));
    own.wake();
    let foreign = thread::spawn(waker).join().unwrap();
    foreign.wake_by_ref();
    foreign.wake();
}

#[test]
fn a_nested_block_on_loses_no_wake_and_no_registration_of_the_outer_one() {
    let (mut far, near) = pair();
    let flag = Arc::new(Flag::default());
    let (mut set, mut read) = (Box::pin(flag.wait()), Box::pin(read_byte(&near)));
    let mut polls = 0;
    run(poll_fn(|cx| {
        polls += 1;
        let done = (
            set.as_mut().poll(cx).is_ready(),
            read.as_mut().poll(cx).is_ready(),
        );
        if polls == 1 {
            assert_eq!(done, (false, false));
            // The inner wait receives what the outer one waits for.
            flag.set();
            far.write_all(&[1]).unwrap();
            block_on(sleep_ms(20));
            return Poll::Pending;
        }
        assert_eq!(done, (true, true));
        Poll::Ready(())
    }));

    // After the inner one the outer one waits as before.
    let mut read = Box::pin(read_byte(&near));
    let mut polls = 0;
    run(poll_fn(|cx| {
        let done = read.as_mut().poll(cx);
        polls += 1;
        if polls == 1 {
            block_on(sleep_ms(1));
        } else if polls == 2 {
            let mut far = far.try_clone().unwrap();
            thread::spawn(move || far.write_all(&[2]).unwrap());
        }
        done
    }));
}

#[test]
fn the_earliest_deadline_ends_the_wait() {
    let begun = Instant::now();
    let (mut late, mut soon) = (sleep_ms(3_600_000), sleep_ms(5));
    run(poll_fn(|cx| {
        assert!(Pin::new(&mut late).poll(cx).is_pending());
        Pin::new(&mut soon).poll(cx)
    }));
    assert!(begun.elapsed() >= Duration::from_millis(5));
    assert_eq!(registrations(), (0, 0));
}

#[test]
fn a_dropped_timer_and_a_timer_that_was_reset_have_no_earlier_registration() {
    run(poll_fn(|cx| {
        let mut sleep = sleep_ms(10_000);
        for _ in 0..3 {
            assert!(Pin::new(&mut sleep).poll(cx).is_pending());
            jtp_driver::Sleep::reset(&mut sleep, Instant::now() + LIMIT);
        }
        assert_eq!(registrations(), (0, 2)); // The other one is that of `run`.
        drop(sleep);
        assert_eq!(registrations(), (0, 1));
        Poll::Ready(())
    }));
}

#[test]
fn a_socket_that_is_dropped_is_closed_while_its_thread_waits() {
    let (mut far, near) = pair();
    let flag = Arc::new(Flag::default());
    let mut near = Some(near);
    let reader = thread::spawn({
        let flag = Arc::clone(&flag);
        move || {
            let read = far.read(&mut [0; 8]);
            flag.set();
            read
        }
    });
    let mut set = Box::pin(flag.wait());
    run(poll_fn(|cx| {
        if let Some(near) = near.take() {
            let read = attempt(&near, PollFlags::IN, cx, || (&*near).read(&mut [0; 8]));
            assert!(read.is_pending());
        }
        set.as_mut().poll(cx)
    }));
    assert_eq!(reader.join().unwrap().unwrap(), 0);
}

/// Polls its future only if that was woken, as executors within a future do.
struct Subtask {
    woken: AtomicBool,
    polls: AtomicUsize,
    parent: Mutex<Option<Waker>>,
}

impl Wake for Subtask {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.parent
            .lock()
            .unwrap()
            .iter()
            .for_each(Waker::wake_by_ref);
    }
}

async fn as_subtask<T>(future: impl Future<Output = T>) -> (T, usize) {
    let subtask = Arc::new(Subtask {
        woken: AtomicBool::new(true),
        polls: AtomicUsize::new(0),
        parent: Mutex::default(),
    });
    let waker = Waker::from(Arc::clone(&subtask));
    let mut future = pin!(future);
    poll_fn(|cx| {
        *subtask.parent.lock().unwrap() = Some(cx.waker().clone());
        if !subtask.woken.swap(false, Ordering::SeqCst) {
            return Poll::Pending;
        }
        let polls = subtask.polls.fetch_add(1, Ordering::SeqCst) + 1;
        let done = future.as_mut().poll(&mut Context::from_waker(&waker));
        done.map(|done| (done, polls))
    })
    .await
}

#[test]
fn a_future_with_wakers_of_its_own_is_woken_by_its_socket_and_its_timer() {
    let (mut far, near) = pair();
    let mut read = pin!(as_subtask(read_byte(&near)));
    let mut sleep = pin!(as_subtask(sleep_ms(30)));
    let mut tick = sleep_ms(10);
    let (mut byte, mut slept) = (None, None);
    run(poll_fn(|cx| {
        if byte.is_none() {
            if let Poll::Ready((read, polls)) = read.as_mut().poll(cx) {
                assert_eq!(polls, 2);
                byte = Some(read);
            }
        }
        if slept.is_none() {
            if let Poll::Ready(((), polls)) = sleep.as_mut().poll(cx) {
                assert_eq!(polls, 2);
                slept = Some(());
                far.write_all(&[7]).unwrap();
            }
        }
        // Wakes the whole without the parts.
        if Pin::new(&mut tick).poll(cx).is_ready() {
            tick = sleep_ms(1000);
        }
        match (byte, slept) {
            (Some(7), Some(())) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }));
}

#[test]
fn a_thread_without_a_descriptor_looks_again_after_20_ms() {
    let begun = Instant::now();
    let fired = REGISTRY.with_borrow_mut(|registry| registry.poll(None));
    assert!(fired.is_empty());
    assert!(begun.elapsed() >= FALLBACK && begun.elapsed() < LIMIT);
}
