//! What a submission is told of a model of the hub. The cache is not written to, and no download is waited for.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::timeout;

use super::listing::{CONFIG, INDEX};
use super::{HubError, HubModel, HubOptions, verify};
use crate::engine::ModelPlan;
use crate::models::{ModelHub, NoRemoteModel, RemoteModel};
use crate::pipeline::PipelineError;

/// How long a hub that was away is not asked again: a submission waits for it once.
const PAUSE: Duration = Duration::from_secs(10);

/// The longest description or index that is read.
const LONGEST: u64 = 64 << 20;

/// Asks the hub for models within a limit of time.
#[derive(Debug)]
pub struct HubLook {
    options: HubOptions,
    limit: Duration,
    away: Away,
}

impl HubLook {
    /// Asks within `limit`; never where that is zero.
    pub fn new(options: HubOptions, limit: Duration) -> Self {
        Self {
            options,
            limit,
            away: Away::default(),
        }
    }

    async fn ask(
        &self,
        id: &str,
        revision: &str,
        needs_tokens: bool,
    ) -> Result<RemoteModel, NoRemoteModel> {
        if self.limit.is_zero() {
            let reason = "this server does not ask the hub (SECATEUR_HUB_CHECK_SECONDS is 0)";
            return Err(NoRemoteModel::Unknown(reason.to_owned()));
        }
        if self.options.offline {
            let reason = "HF_HUB_OFFLINE forbids asking the hub";
            return Err(NoRemoteModel::Unknown(reason.to_owned()));
        }
        if let Some(reason) = self.away.reason(Instant::now()) {
            return Err(NoRemoteModel::Unknown(reason));
        }
        let asked = describe(id, revision, needs_tokens, &self.options);
        match timeout(self.limit, asked).await {
            Ok(Ok(model)) => Ok(model),
            Ok(Err(error)) => Err(self.explain(&error)),
            Err(_) => {
                let seconds = self.limit.as_secs_f64();
                let reason = format!("the hub does not answer within {seconds} s");
                self.away.note(Instant::now(), &reason);
                Err(NoRemoteModel::Unknown(reason))
            }
        }
    }

    fn explain(&self, error: &PipelineError) -> NoRemoteModel {
        if let PipelineError::Hub(HubError::Io { .. } | HubError::Disk(_)) = error {
            // It names a directory of this machine.
            tracing::warn!(error = error.chain(), "cannot ask the hub");
            return NoRemoteModel::Unknown("this server cannot ask the hub".to_owned());
        }
        let (code, reason) = (error.code(), error.chain());
        if !code.retryable() {
            return NoRemoteModel::Refused(code, reason);
        }
        if matches!(error, PipelineError::Hub(error) if error.is_outage()) {
            self.away.note(Instant::now(), &reason);
        }
        NoRemoteModel::Unknown(reason)
    }
}

impl ModelHub for HubLook {
    fn look<'a>(
        &'a self,
        id: &'a str,
        revision: &'a str,
        needs_tokens: bool,
    ) -> BoxFuture<'a, Result<RemoteModel, NoRemoteModel>> {
        self.ask(id, revision, needs_tokens).boxed()
    }
}

async fn describe(
    id: &str,
    revision: &str,
    needs_tokens: bool,
    options: &HubOptions,
) -> Result<RemoteModel, PipelineError> {
    let mut model = HubModel::open(id, revision, options)?;
    model.ask(revision).await?;
    model.listing.require_model(&model.repository.what)?;
    if needs_tokens {
        model.require_tokenizer()?;
    }
    let plan = ModelPlan::parse(&read(&model, CONFIG).await?)?;
    let mut shards = None;
    if model.listing.is_sharded() {
        let map = model.parse_index(&read(&model, INDEX).await?)?;
        plan.check_names(&map.keys().map(String::as_str).collect())?;
        shards = Some(map.into_values().collect());
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

/// Reads a file that is as it is listed.
async fn read(model: &HubModel, name: &str) -> Result<Bytes, HubError> {
    let (file, repository) = (model.listed(name)?, &model.repository);
    let what = format!("{name} of {}", repository.what);
    if file.size_bytes > LONGEST {
        let reason = format!("it has {} bytes", file.size_bytes);
        return Err(HubError::Unavailable {
            what,
            reason,
            is_away: false,
        });
    }
    let request = repository.handle.download_file_to_bytes();
    let request = request.filename(name).revision(&repository.commit).send();
    let bytes = repository.answer(&what, request).await?;
    let (actual, digest) = (bytes.len() as u64, file.digest.as_ref());
    let compared = verify::compare(&mut bytes.as_ref(), actual, name, file.size_bytes, digest);
    match compared.unwrap_or_else(|error: io::Error| unreachable!("memory is read: {error}")) {
        Ok(_) => Ok(bytes),
        Err(mismatch) => Err(HubError::Corrupt { what, mismatch }),
    }
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
