//! A CoServer's calls to the store, each within its time, and the task that makes them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::objects::Objects;
use super::{ObjectEvent, ObjectStoreError};
use crate::ids::PairId;
use crate::record::Record;
use crate::wire::frames::{WitnessAnswer, WitnessCall};
use crate::witness::Event;
use crate::witness::object::{Action, Job, ObjectError, ObjectWitness, Outcome, Step};

/// The longest that one action may take before the store counts as not reached. Some round trips
/// to a distant store, and a fraction of what a held client bears.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// A store that is not reached is tried again after this, and then after twice as long each time.
const RETRY: Duration = Duration::from_millis(50);
/// The longest of these.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A job could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ObjectFailure {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] ObjectStoreError),
    /// The objects, or the way to them.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

/// One CoServer's, or an operator's, access to a pair's objects.
#[derive(Debug)]
pub struct ObjectClient {
    core: ObjectWitness,
    objects: Arc<Objects>,
    /// An action that has taken too long. The next one waits for it, so that this process never
    /// has two under way.
    pending: Option<JoinHandle<Outcome>>,
    limit: Duration,
}

impl ObjectClient {
    /// For this pair, in the store with this URL: `file:///PATH`, or `s3://BUCKET/PREFIX` with
    /// credentials from the environment, as `object_store` takes them (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT` and so on).
    ///
    /// # Errors
    /// If the URL is none, or the program was built without what it needs.
    pub fn open(url: &str, pair: PairId) -> Result<Self, ObjectStoreError> {
        let objects = Arc::new(Objects::open(url, pair)?);
        Ok(Self { core: ObjectWitness::new(pair), objects, pending: None, limit: LIMIT })
    }

    /// Makes a call, within a bounded time. A hello has no answer.
    ///
    /// # Errors
    /// [`ObjectError::Unreached`] as if there were no witness at present, or what is wrong with
    /// the objects.
    pub async fn call(&mut self, call: WitnessCall) -> Result<Option<WitnessAnswer>, ObjectError> {
        self.run(Job::Call(call)).await
    }

    /// Makes the last of the calls that have queued up; those before it are only older forms of
    /// it, but for a hello.
    async fn newest(
        &mut self,
        mut call: WitnessCall,
        calls: &mut mpsc::Receiver<WitnessCall>,
    ) -> Result<Option<WitnessAnswer>, ObjectError> {
        while let Ok(later) = calls.try_recv() {
            if matches!(call, WitnessCall::Hello { .. }) {
                let _ = self.call(call).await;
            }
            call = later;
        }
        self.call(call).await
    }

    /// The present record, trusted or not.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn look(&mut self) -> Result<Record, ObjectError> {
        self.record(Job::Look).await
    }

    /// Makes the first record, a vacant one.
    ///
    /// # Errors
    /// [`ObjectError::Enrolled`] if there is one; as for [`call`](Self::call).
    pub async fn enrol(&mut self) -> Result<Record, ObjectError> {
        self.record(Job::Enrol).await
    }

    /// Gives up what the pair held: a vacant record of the next lineage, above all that is known.
    ///
    /// # Errors
    /// [`ObjectError::Raced`] if a CoServer wrote meanwhile; as for [`call`](Self::call).
    pub async fn new_lineage(&mut self) -> Result<Record, ObjectError> {
        self.record(Job::NewLineage).await
    }

    async fn record(&mut self, job: Job) -> Result<Record, ObjectError> {
        match self.run(job).await? {
            Some(WitnessAnswer::Present { record }) => Ok(record),
            _ => Err(ObjectError::Unreached),
        }
    }

    async fn run(&mut self, job: Job) -> Result<Option<WitnessAnswer>, ObjectError> {
        let mut step = self.core.begin(job);
        let done = loop {
            match step {
                Step::Do(action) => {
                    let outcome = self.perform(action).await;
                    step = self.core.on(outcome);
                }
                Step::Answer(answer) => break Ok(Some(answer)),
                Step::Nothing => break Ok(None),
                Step::Failed(error) => break Err(error),
            }
        };
        while let Some(event) = self.core.poll_event() {
            log(&event);
        }
        done
    }

    async fn perform(&mut self, action: Action) -> Outcome {
        if let Some(pending) = &mut self.pending {
            if timeout(self.limit, pending).await.is_err() {
                return Outcome::Failed;
            }
            self.pending = None;
        }
        let objects = Arc::clone(&self.objects);
        let task =
            self.pending.insert(tokio::spawn(async move { objects.carry_out(&action).await }));
        match timeout(self.limit, task).await {
            Ok(done) => {
                self.pending = None;
                done.unwrap_or(Outcome::Failed)
            }
            Err(_) => {
                let limit_ms = self.limit.as_millis() as u64;
                tracing::warn!(event = "store_slow", limit_ms);
                Outcome::Failed
            }
        }
    }
}

/// Makes the replica's calls until it is gone.
pub(super) async fn serve(
    mut client: ObjectClient,
    mut calls: mpsc::Receiver<WitnessCall>,
    events: mpsc::Sender<ObjectEvent>,
) {
    let mut pause = RETRY;
    let mut refused = None;
    while !calls.is_closed() {
        match client.look().await {
            Err(ObjectError::Unreached) => {
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
                continue;
            }
            Ok(_) | Err(_) => pause = RETRY,
        }
        // What was asked before is asked again on coming up.
        while calls.try_recv().is_ok() {}
        if events.send(ObjectEvent::Up).await.is_err() {
            return;
        }
        while let Some(call) = calls.recv().await {
            let event = match client.newest(call, &mut calls).await {
                Ok(None) => continue,
                Ok(Some(answer)) => ObjectEvent::Answer(answer),
                Err(error) => match error.refusal() {
                    None => ObjectEvent::Down,
                    Some(reason) => {
                        if refused.as_ref() != Some(&error) {
                            tracing::error!(event = "store_refused", %error);
                            refused = Some(error);
                        }
                        ObjectEvent::Answer(WitnessAnswer::Refused { reason })
                    }
                },
            };
            let down = event == ObjectEvent::Down;
            if events.send(event).await.is_err() {
                return;
            }
            if down {
                break;
            }
        }
    }
}

fn log(event: &Event) {
    match event {
        Event::Granted { record } => {
            super::super::report::say_granted(record);
        }
        Event::Denied { why, .. } => tracing::info!(event = "denied", %why),
        Event::Behind { pair, ours, told } => {
            super::super::report::say_behind(*pair, *ours, *told);
        }
        _ => {}
    }
}
