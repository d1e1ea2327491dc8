//! What a submission is told of a model of the hub. The cache is not written to, and no download is waited for.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;

use super::listing::{CONFIG, INDEX};
use super::recent::{Answer, ModelQuestion, RecentAnswers};
use super::{HubError, HubModel, HubOptions, parse_index, verify};
use crate::engine::ModelPlan;
use crate::models::{ModelHub, NoRemoteModel, RemoteModel};
use crate::pipeline::PipelineError;

/// How long a hub that was away is not asked again: a submission waits for it once.
const PAUSE: Duration = Duration::from_secs(10);

/// The most models that are looked at together.
const TOGETHER: usize = 4;

/// Asks the hub for models within a limit of time.
#[derive(Debug)]
pub struct HubLook {
    options: HubOptions,
    limit: Duration,
    away: Away,
    recent: RecentAnswers,
    turns: Arc<Semaphore>,
}

impl HubLook {
    /// Asks within `limit`; never where that is zero.
    pub fn new(options: HubOptions, limit: Duration) -> Self {
        Self {
            options: HubOptions {
                // The client library gives up well within the limit, and says why.
                retry_delay: limit / 100,
                ..options
            },
            limit,
            away: Away::default(),
            recent: RecentAnswers::default(),
            turns: Arc::new(Semaphore::new(TOGETHER)),
        }
    }

    async fn ask(&self, question: ModelQuestion) -> Answer {
        if self.limit.is_zero() {
            return unknown("this server does not ask the hub (SECATEUR_HUB_CHECK_SECONDS is 0)");
        }
        if self.options.offline {
            return unknown("HF_HUB_OFFLINE forbids asking the hub");
        }
        if let Some(reason) = self.away.reason(Instant::now()) {
            return unknown(&reason);
        }
        let place = self.recent.place(Instant::now(), &question);
        let deadline = tokio::time::Instant::now() + self.limit;
        // What failed for a moment is asked again by the next.
        let known =
            place.get_or_try_init(async || match self.ask_in_turn(&question, deadline).await {
                Err(NoRemoteModel::Unknown(reason)) => Err(reason),
                answer => Ok(answer),
            });
        known
            .await
            .cloned()
            .unwrap_or_else(|reason| unknown(&reason))
    }

    async fn ask_in_turn(
        &self,
        question: &ModelQuestion,
        deadline: tokio::time::Instant,
    ) -> Answer {
        let turn = Arc::clone(&self.turns).acquire_owned();
        let Ok(Ok(turn)) = timeout_at(deadline, turn).await else {
            return unknown("this server asks the hub for too many models at once");
        };
        // Noted while this waited.
        if let Some(reason) = self.away.reason(Instant::now()) {
            return unknown(&reason);
        }
        self.ask_hub(question, deadline, turn).await
    }

    async fn ask_hub(
        &self,
        question: &ModelQuestion,
        deadline: tokio::time::Instant,
        turn: OwnedSemaphorePermit,
    ) -> Answer {
        let ModelQuestion { id, revision, .. } = question;
        let seconds = self.limit.as_secs_f64();
        let mut model =
            HubModel::open(id, revision, &self.options).map_err(|error| explain(&error.into()))?;
        match timeout_at(deadline, model.pin(revision)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let is_away = matches!(error, HubError::Unreachable { .. });
                let told = explain(&error.into());
                // It names no model, so that those who ask for another may read it.
                if let (true, NoRemoteModel::Unknown(reason)) = (is_away, &told) {
                    self.away.note(Instant::now(), reason);
                }
                return Err(told);
            }
            Err(_) => {
                let reason = format!("the hub does not answer within {seconds} s");
                self.away.note(Instant::now(), &reason);
                return unknown(&reason);
            }
        }
        // It has answered once: later answers may take their time.
        model.repository.options.first_look = self.limit;
        let described = describe(model, question.needs_tokens, Arc::new(turn));
        match timeout_at(deadline, described).await {
            Ok(described) => described.map_err(|error| explain(&error)),
            Err(_) => unknown(&format!(
                "the hub does not describe the model within {seconds} s"
            )),
        }
    }
}

/// What a submission is told of an error.
fn explain(error: &PipelineError) -> NoRemoteModel {
    if let PipelineError::Hub(HubError::Io { .. } | HubError::Disk(_)) = error {
        // It names a directory of this machine.
        tracing::warn!(error = error.chain(), "cannot ask the hub");
        return NoRemoteModel::Unknown("this server cannot ask the hub".to_owned());
    }
    let (code, reason) = (error.code(), error.chain());
    if code.retryable() {
        NoRemoteModel::Unknown(reason)
    } else {
        NoRemoteModel::Refused(code, reason)
    }
}

fn unknown(reason: &str) -> Answer {
    Err(NoRemoteModel::Unknown(reason.to_owned()))
}

impl ModelHub for HubLook {
    fn look<'a>(
        &'a self,
        id: &'a str,
        revision: &'a str,
        needs_tokens: bool,
    ) -> BoxFuture<'a, Result<RemoteModel, NoRemoteModel>> {
        let question = ModelQuestion {
            id: id.to_owned(),
            revision: revision.to_owned(),
            needs_tokens,
        };
        self.ask(question).boxed()
    }
}

/// Describes a model whose commit is known.
async fn describe(
    mut model: HubModel,
    needs_tokens: bool,
    turn: Arc<OwnedSemaphorePermit>,
) -> Result<RemoteModel, PipelineError> {
    model.list().await?;
    let what = model.repository.what.clone();
    model.listing.require_model(&what)?;
    if needs_tokens {
        model.require_tokenizer()?;
    }
    let plan = |text: &[u8]| Ok(ModelPlan::parse(text)?);
    let plan = read(&model, CONFIG, &turn, plan).await?;
    let mut shards = None;
    if model.listing.is_sharded() {
        let known = plan.clone();
        let names = move |text: &[u8]| {
            let map = parse_index(&what, text)?;
            known.check_names(&map.keys().map(String::as_str).collect())?;
            Ok(map.into_values().collect())
        };
        shards = Some(read(&model, INDEX, &turn, names).await?);
    }
    let model = model.with_code_of(&plan);
    let (size_bytes, missing_bytes) = model.sizes_with(shards.as_ref())?;
    Ok(RemoteModel {
        commit: model.commit().to_owned(),
        plan,
        size_bytes,
        missing_bytes,
    })
}

/// Reads a file that is as it is listed, beside what the server answers meanwhile.
async fn read<T: Send + 'static>(
    model: &HubModel,
    name: &'static str,
    turn: &Arc<OwnedSemaphorePermit>,
    parse: impl FnOnce(&[u8]) -> Result<T, PipelineError> + Send + 'static,
) -> Result<T, PipelineError> {
    let (file, repository) = (model.listed_small(name)?.clone(), &model.repository);
    let what = format!("{name} of {}", repository.what);
    let request = repository.handle.download_file_to_bytes();
    let request = request.filename(name).revision(&repository.commit).send();
    let bytes = repository.answer(&what, request).await?;
    let turn = Arc::clone(turn);
    let parsed = spawn_blocking(move || {
        // Nothing stops it at the limit of time: the next look waits for it.
        let _turn = turn;
        let (actual, digest) = (bytes.len() as u64, file.digest.as_ref());
        let compared = verify::compare(&mut bytes.as_ref(), actual, name, file.size_bytes, digest);
        match compared.unwrap_or_else(|error: io::Error| unreachable!("memory is read: {error}")) {
            Ok(_) => parse(&bytes),
            Err(mismatch) => Err(HubError::Corrupt { what, mismatch }.into()),
        }
    });
    let panicked = |panic| HubError::io(repository.cache.root())(io::Error::other(panic));
    parsed.await.map_err(panicked)?
}

/// Since when the hub is away, and how that shows.
#[derive(Debug, Default)]
struct Away(Mutex<Option<(Instant, String)>>);

impl Away {
    fn note(&self, now: Instant, reason: &str) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = Some((now, reason.to_owned()));
    }

    /// What was noted within [`PAUSE`].
    fn reason(&self, now: Instant) -> Option<String> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, reason) = noted.as_ref()?;
        (now.duration_since(*since) < PAUSE).then(|| reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_was_away_is_asked_again_after_a_pause() {
        let (away, began) = (Away::default(), Instant::now());
        assert_eq!(away.reason(began), None);
        away.note(began, "no answer");
        let later = |pause: Duration| away.reason(began + pause);
        let almost = later(PAUSE.saturating_sub(Duration::from_millis(1)));
        assert_eq!(almost.as_deref(), Some("no answer"));
        assert_eq!(later(PAUSE), None);
    }
}
