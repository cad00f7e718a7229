//! Telling the broker what jobs came to, as many of them in one request as wait at that moment.
//!
//! Owns the queue of completions that nobody has sent yet. What is sent alone goes to the call that every broker has; a
//! broker that has no call for several is known by its answer. Never retries and never keeps anything: that is for
//! whoever asked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::client::BrokerClient;
use super::error::BrokerError;
use super::wire::Completion;

/// Requests under way at once: what ends meanwhile goes together with the next one.
const LANES: usize = 2;
/// Most completions of one request.
const MOST: usize = 256;
/// Bytes of output after which a request takes no more.
const MOST_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Completions {
    broker: BrokerClient,
    waiting: Mutex<VecDeque<Waiting>>,
    lanes: Arc<Semaphore>,
    /// The broker takes one at a time.
    one_by_one: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    completion: Completion,
    told: oneshot::Sender<Result<(), BrokerError>>,
}

impl Completions {
    pub(crate) fn new(broker: BrokerClient) -> Arc<Self> {
        Arc::new(Self {
            broker,
            waiting: Mutex::default(),
            lanes: Arc::new(Semaphore::new(LANES)),
            one_by_one: AtomicBool::new(false),
        })
    }

    /// Tells the broker, with others or alone.
    pub(crate) async fn tell(self: &Arc<Self>, completion: Completion) -> Result<(), BrokerError> {
        let (told, answer) = oneshot::channel();
        self.queue().push_back(Waiting { completion, told });
        self.begin();
        answer.await.unwrap_or(Err(BrokerError::Interrupted))
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) {
        if let Ok(lane) = Arc::clone(&self.lanes).try_acquire_owned() {
            tokio::spawn(Arc::clone(self).send_all(lane));
        }
    }

    async fn send_all(self: Arc<Self>, lane: OwnedSemaphorePermit) {
        loop {
            // whoever can say something at this very moment does so before
            tokio::task::yield_now().await;
            let batch = self.next_batch();
            if batch.is_empty() {
                break;
            }
            self.send(batch).await;
        }
        drop(lane);
        // who came after the last look, and found no lane
        if !self.queue().is_empty() {
            self.begin();
        }
    }

    fn next_batch(&self) -> Vec<Waiting> {
        let most = if self.one_by_one.load(Ordering::Relaxed) {
            1
        } else {
            MOST
        };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut queue = self.queue();
        while batch.len() < most
            && bytes < MOST_BYTES
            && let Some(waiting) = queue.pop_front()
        {
            // nobody waits for it any more: it will be told later
            if waiting.told.is_closed() {
                continue;
            }
            bytes += waiting.completion.output.len() + waiting.completion.error.len();
            batch.push(waiting);
        }
        batch
    }

    async fn send(&self, batch: Vec<Waiting>) {
        if let [_] = batch.as_slice() {
            return self.send_each(batch).await;
        }
        let (completions, told): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|it| (it.completion, it.told)).unzip();
        match self.broker.complete_all(&completions).await {
            Ok(results) => {
                let results = results
                    .into_iter()
                    .map(Some)
                    .chain(std::iter::repeat_with(|| None));
                for (told, result) in told.into_iter().zip(results) {
                    answer(told, result.unwrap_or(Err(BrokerError::Interrupted)));
                }
            }
            Err(error) if matches!(error.status(), Some(404 | 405)) => {
                self.one_by_one.store(true, Ordering::Relaxed);
                let each = completions.into_iter().zip(told);
                let each = each.map(|(completion, told)| Waiting { completion, told });
                self.send_each(each.collect()).await;
            }
            Err(error) => {
                let error = Arc::new(error);
                for told in told {
                    answer(told, Err(BrokerError::Together(Arc::clone(&error))));
                }
            }
        }
    }

    async fn send_each(&self, batch: Vec<Waiting>) {
        for Waiting { completion, told } in batch {
            answer(told, self.broker.complete(&completion).await);
        }
    }
}

fn answer(told: oneshot::Sender<Result<(), BrokerError>>, result: Result<(), BrokerError>) {
    // who has gone meanwhile tells it again
    drop(told.send(result));
}
