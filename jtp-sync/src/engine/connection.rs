//! One connection: fetches images until none are wanted, and goes on after failures. // R6

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_listener::listener;
use jtp_core::ImageId;
use jtp_core::client::{ClientError, Retry};
use jtp_core::wire::response::ErrorCode;
use jtp_driver::Runtime;
use jtp_driver::client::{Client, Error as ClientFailure, ImageError, Images};

use super::error::Error;
use super::event::{Cause, SyncEvent};
use super::flight::Flight;
use super::pace::Pace;
use super::race::{Either, race};
use super::request::Request;
use super::session::Session;
use super::workers::{MIN_MOVED, Workers};
use crate::step::FetchFailure;

/// Losses in a row without an image between them, in each of which the server failed to send a certain image: the
/// server answers, and the images are at fault. A server that has sent more images than this may fail to send as many.
const MAX_STRIKES: u64 = 64;

/// The pause after such a loss.
const STRIKE_PAUSE: Duration = Duration::from_millis(250);

/// After as many of these losses in a row, or images that were given up, each because the server said that it cannot read an
/// image: the other images most likely share the fault, such as a folder without permission.
const MAX_PATIENCE: u64 = 3;

/// The pause from then on. An image is then requested once alone.
const SHORT_PAUSE: Duration = Duration::from_millis(10);

/// A connection that fetches.
pub(super) struct Connection<R: Runtime> {
    pub(super) session: Arc<Session>,
    runtime: R,
    pub(super) client: Client<R>,
    pub(super) workers: Workers,
    /// 0 for the connection that also requests the catalog.
    pub(super) number: usize,
    pub(super) retries: u32,
    retry: Retry,
    strikes: u64,
    /// Images in a row that the server could not read, and that were given up.
    unreadable: u64,
    /// Connections that were lost.
    losses: u64,
    /// Another connection of this run watches: if this one is refused, the server may admit only one.
    pub(super) watches: bool,
}

/// What has become of a request.
#[derive(Default)]
struct Response {
    /// The images that were requested by ID and have not arrived, in order.
    pending: VecDeque<ImageId>,
    /// Where it comes from, and of how many servers, if there are several.
    server: Option<(Arc<str>, usize)>,
    /// The image that is arriving.
    current: Option<ImageId>,
    /// Images that have arrived.
    arrived: u64,
    /// The encoded bytes of images that have begun to arrive.
    bytes: u64,
    /// When the first of them began.
    first: Option<Instant>,
}

/// A request that was not answered in full.
struct Loss {
    error: ClientFailure,
    /// The image in whose place the response ended.
    culprit: Option<ImageId>,
    /// Whether the response had begun, or the server reported that it cannot send it.
    at_fault: bool,
    /// Whether no other image was requested.
    alone: bool,
    arrived: u64,
    /// Whether it was a request for everything.
    bulk: bool,
}

impl<R: Runtime> Connection<R> {
    pub(super) fn new(
        session: &Arc<Session>,
        runtime: R,
        client: Client<R>,
        (number, connections): (usize, usize),
        retries: u32,
    ) -> Connection<R> {
        Connection {
            session: Arc::clone(session),
            runtime,
            workers: Workers::new(session, connections),
            client,
            number,
            retries,
            retry: Retry::new(retries),
            strikes: 0,
            unreadable: 0,
            losses: 0,
            watches: false,
        }
    }

    /// Fetches until no images are wanted and no other connection fetches any.
    ///
    /// # Errors
    ///
    /// The connection is of no more use, or the run has ended. What it had requested is wanted again.
    pub(super) async fn fetch(&mut self) -> Result<(), Error> {
        loop {
            self.session.check()?;
            let session = Arc::clone(&self.session);
            listener!(session.changed => changed);
            if let Some(request) = self.session.next_request() {
                self.leave_broken_server(&request);
                if let Err(loss) = Box::pin(self.perform(request)).await {
                    Box::pin(self.recover(loss)).await?;
                }
                continue;
            }
            self.drain().await;
            // Broken images are wanted again.
            let (wanted, in_flight) = {
                let state = self.session.state();
                (state.planner.wanted().images, state.in_flight)
            };
            if wanted > 0 {
                continue;
            }
            if in_flight == 0 {
                return Ok(());
            }
            race(self.session.stopped(), changed).await;
        }
    }

    /// Waits until all received images are processed, or the run ends.
    pub(super) async fn drain(&mut self) {
        let session = Arc::clone(&self.session);
        race(session.stopped(), self.workers.drain()).await;
    }

    /// Makes a request and receives the response.
    async fn perform(&mut self, request: Request) -> Result<(), Loss> {
        let mut response = Response::default();
        let servers = self.client.servers();
        if servers > 1 {
            let address = self.client.address();
            response.server = address.map(|address| (address.into(), servers));
        }
        let mut bulk = true;
        let client = &mut self.client;
        let mut images = match request {
            Request::All => client.list_and_get(),
            Request::Batch(have) => client.batch(have),
            Request::Ids(ids) => {
                bulk = false;
                response.pending = ids.into();
                client.get(response.pending.iter().copied())
            }
        };
        let requested = response.pending.len();
        let begun = self.runtime.now();
        let result = {
            let session = Arc::clone(&self.session);
            let runtime = self.runtime.clone();
            let workers = &mut self.workers;
            let now = move || runtime.now();
            let receiving = receive(&session, &mut images, workers, &mut response, now);
            let receiving = Box::pin(receiving);
            match race(session.stopped(), receiving).await {
                Either::First(()) => None,
                Either::Second(result) => Some(result),
            }
        };
        let answered = images.announced() > 0;
        drop(images);
        if !matches!(result, Some(Ok(()))) {
            self.workers.discard();
        }
        if bulk {
            // Only then it is known what was not sent.
            self.drain().await;
        }
        let complete = matches!(result, Some(Ok(())));
        if let Some(first) = response.first.filter(|_| complete) {
            let latency = first.saturating_duration_since(begun);
            let total = self.runtime.now().saturating_duration_since(begun);
            let state = &mut *self.session.state();
            state.pace = Some(Pace::measured(response.bytes, latency, total));
        }
        self.release(&response, bulk, complete);
        let Some(Err(error)) = result else {
            // After the end of the run the next look at the session reports it.
            if complete {
                self.has_progress();
            }
            return Ok(());
        };
        // The server answers: the image may be at fault.
        let at_fault = (answered || is_server_error(&error)) && !error.is_rate_limited();
        let next = response.pending.front().copied().filter(|_| at_fault);
        Err(Loss {
            culprit: response.current.or(next),
            at_fault,
            alone: requested == 1,
            arrived: response.arrived,
            error,
            bulk,
        })
    }

    /// Passes to the planner what has not arrived.
    fn release(&self, response: &Response, bulk: bool, complete: bool) {
        let failure = match complete {
            true => FetchFailure::NotSent,
            false => FetchFailure::Interrupted,
        };
        {
            let state = &mut *self.session.state();
            state.in_flight -= 1;
            if bulk {
                // What has not arrived is requested by ID.
                state.bulk &= !complete;
                state.planner.requests_ended(failure);
            }
            for &id in &response.pending {
                if complete {
                    state.remember_cause(id, Cause::NotSent);
                }
                state.planner.fetch_failed(id, failure);
            }
        }
        self.session.changed.notify(usize::MAX);
    }

    /// Waits before the next request. // R6
    ///
    /// # Errors
    ///
    /// No other request is to be made.
    async fn recover(&mut self, loss: Loss) -> Result<(), Error> {
        self.session.check()?;
        let error = loss.error;
        if loss.bulk && is_unsupported(&error) {
            self.session.state().bulk = false;
            return Ok(());
        }
        if self.client.servers() == 1 && !error.is_transient() {
            return Err(error.into());
        }
        if loss.arrived > 0 {
            self.has_progress();
        } else if self.is_one_too_many(&error) || self.is_second(&error) {
            return Err(error.into());
        }
        let (error, changed) = match self.fail_over(error) {
            Ok(failed) => (ClientFailure::Replicas(vec![failed]), true),
            Err(error) if !error.is_transient() => return Err(error.into()),
            Err(error) => (error, false),
        };
        self.losses += 1;
        if self.losses > self.max_losses() {
            return Err(error.into());
        }
        // Without progress by this kind of request, another kind is used.
        if loss.bulk && loss.arrived == 0 && loss.at_fault {
            self.session.state().bulk = false;
        }
        let pause = match loss.culprit {
            Some(culprit) if self.strikes < self.max_strikes() => {
                self.strikes += 1;
                let is_impatient = self.is_impatient(&error);
                // The images may be out of reach for a while: that is waited for before they are given up.
                let outage = is_impatient.then(|| self.retry.pause(false)).flatten();
                let pause = match is_impatient {
                    true => outage.unwrap_or(SHORT_PAUSE),
                    false => STRIKE_PAUSE,
                };
                if !changed {
                    self.report_retry(&error, pause);
                }
                if outage.is_none() {
                    self.suspect(culprit, loss.alone, error);
                }
                return match changed {
                    true => Ok(()),
                    false => self.sleep(pause).await,
                };
            }
            _ if changed => return Ok(()),
            _ => self.retry.pause(error.is_rate_limited()),
        };
        match pause {
            Some(pause) => {
                self.report_retry(&error, pause);
                self.sleep(pause).await?;
                self.session.check_folder()
            }
            None => Err(error.into()),
        }
    }

    /// Whether the server refused this connection because another one of this run watches.
    pub(super) fn is_second(&self, error: &ClientFailure) -> bool {
        self.watches && matches!(error, ClientFailure::Refused(_)) && !error.is_rate_limited()
    }

    fn has_progress(&mut self) {
        self.retry.progress();
        self.strikes = 0;
        self.unreadable = 0;
    }

    /// Whether the server says again and again that it cannot read an image. Several servers are asked as before: another
    /// one may have it.
    fn is_impatient(&self, error: &ClientFailure) -> bool {
        let in_a_row = self.strikes.max(self.unreadable);
        in_a_row > MAX_PATIENCE && is_server_error(error) && self.client.servers() == 1
    }

    fn max_strikes(&self) -> u64 {
        let fetched = self.session.state().planner.totals().fetched.images;
        MAX_STRIKES.max(fetched)
    }

    /// The response ended in the place of this image: it is requested last, and given up after some attempts. Images
    /// beside each other often share the fault, such as a disk: more and more of them are postponed.
    fn suspect(&mut self, id: ImageId, alone: bool, error: ClientFailure) {
        let is_unreadable = is_server_error(&error);
        let attempts = match self.is_impatient(&error) {
            true => 1,
            false => self.max_attempts(),
        };
        tracing::debug!(%id, error = &error as &dyn std::error::Error, "the server did not send the image");
        {
            let state = &mut *self.session.state();
            let count = state.suspects.entry(id).or_default();
            if alone {
                *count += 1;
            }
            let is_final = u64::from(*count) >= attempts;
            state.remember_cause(id, Cause::Connection(error));
            let postponed = 1usize.checked_shl(u32::try_from(self.strikes).unwrap_or(u32::MAX));
            state.planner.postpone(postponed.unwrap_or(usize::MAX));
            if is_final {
                state.suspects.remove(&id);
                state.planner.fetch_failed(id, FetchFailure::Final);
                self.strikes = 0;
                self.unreadable += u64::from(is_unreadable);
            }
        }
        if let Err(error) = self.session.run_moves() {
            self.session.fail(error);
        }
    }

    /// A bound for servers that send images that nobody asked for and end the connection. Each planned image may cause
    /// as many losses as it takes to give it up, and one before.
    fn max_losses(&self) -> u64 {
        let planned = self.session.state().planner.totals().planned.images;
        let for_each = self.max_attempts() + 1;
        100 + planned.saturating_mul(for_each)
    }

    pub(super) async fn sleep(&mut self, pause: Duration) -> Result<(), Error> {
        let until = self.runtime.now() + pause;
        race(self.session.stopped(), self.runtime.sleep_until(until)).await;
        self.session.check()
    }
}

/// Receives all images of a response, and passes them to the workers.
async fn receive<R: Runtime>(
    session: &Arc<Session>,
    images: &mut Images<'_, R>,
    workers: &mut Workers,
    response: &mut Response,
    now: impl Fn() -> Instant,
) -> Result<(), ClientFailure> {
    while let Some(incoming) = while_writing(images.next(), workers).await? {
        let image = incoming.image();
        response.current = Some(image.id);
        response.first.get_or_insert_with(&now);
        response.bytes += u64::from(image.length);
        let server = response.server.clone();
        let (mut flight, name) = Flight::begin(session, image.id, server);
        session.emit(&SyncEvent::Started {
            id: image.id,
            length: image.length,
            name: name.as_ref(),
        });
        let mut incoming = incoming.undecoded()?;
        workers.begin(image).await;
        // Sends earlier data to the threads while this image is being received.
        loop {
            match while_writing(incoming.chunk(), workers).await {
                Ok(Some(chunk)) => {
                    let length = chunk.len();
                    if length < MIN_MOVED {
                        workers.append(chunk);
                    } else {
                        workers.flush_bytes().await;
                        workers.take(|memory| incoming.move_chunk(memory));
                    }
                    flight.add(u64::try_from(length).unwrap_or(0));
                }
                Ok(None) => break,
                Err(ImageError::Interrupted(error) | ImageError::Fatal(error)) => {
                    workers.discard();
                    return Err(error);
                }
                Err(_) => {
                    workers.discard();
                    return Err(ClientFailure::Failed);
                }
            }
            workers.flush_if_full().await;
        }
        workers.end(flight);
        workers.flush_if_full().await;
        response.current = None;
        response.arrived += 1;
        if let Some(at) = response.pending.iter().position(|id| *id == image.id) {
            response.pending.remove(at);
        }
    }
    Ok(())
}

/// Awaits `receiving`, and meanwhile sends received data to the threads. `receiving` is never restarted.
async fn while_writing<T>(receiving: impl Future<Output = T>, workers: &mut Workers) -> T {
    let mut receiving = pin!(receiving);
    loop {
        match race(receiving.as_mut(), workers.send_when_idle()).await {
            Either::First(received) => return received,
            // Nothing can be read now.
            Either::Second(()) => {}
        }
    }
}

fn is_server_error(error: &ClientFailure) -> bool {
    matches!(error, ClientFailure::Protocol(ClientError::Server(error)) if error.code == ErrorCode::ServerError)
}

/// Whether the server does not know the request.
fn is_unsupported(error: &ClientFailure) -> bool {
    matches!(error, ClientFailure::Protocol(ClientError::Server(error))
        if matches!(error.code, ErrorCode::UnsupportedFeature | ErrorCode::InvalidRequest))
}
