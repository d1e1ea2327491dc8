//! A model's name → a directory with its files, on this machine.

use std::fs::File;
use std::path::PathBuf;
use std::slice;
use std::sync::Arc;
use std::time::SystemTime;

use super::download;
use crate::domain::job::progress::Phase;
use crate::domain::spec::{JobSpec, PinnedCommit, memory};
use crate::engine::ModelPlan;
use crate::machine;
use crate::pipeline::hub::{HubModel, HubOptions};
use crate::pipeline::plan::ModelSource;
use crate::pipeline::stopwatch::Stopwatch;
use crate::pipeline::{Listener, PipelineError};

/// A model on this machine.
#[derive(Debug, Clone)]
pub struct ResolvedModel {
    /// Its directory.
    pub dir: PathBuf,
    /// `hub`, `local` or `job`.
    pub source: &'static str,
    /// The name that was asked for.
    pub id: String,
    /// The hub's commit.
    pub commit: Option<String>,
    /// Keeps it in the cache of the hub while this exists.
    pub in_use: Option<Arc<File>>,
}

/// What a job asks of a model that is not fetched yet.
pub(in crate::pipeline) struct Demands<'a> {
    /// Whether texts are made into tokens.
    pub(in crate::pipeline) tokens: bool,
    /// The service's job.
    pub(in crate::pipeline) job: Option<&'a JobSpec>,
    /// Bytes of memory that the worker has for it; `None` = not known.
    pub(in crate::pipeline) memory_bytes: Option<u64>,
}

impl Demands<'_> {
    /// Looks at the description and the index, before anything else is fetched.
    async fn check(&self, hub_model: HubModel) -> Result<HubModel, PipelineError> {
        if self.tokens {
            hub_model.require_tokenizer()?;
        }
        let config = hub_model.fetch_config().await?;
        let plan = ModelPlan::read(config.parent().unwrap_or(&config))?;
        self.check_memory(&plan)?;
        if let Some(map) = hub_model.weight_map().await? {
            plan.check_names(&map.keys().map(String::as_str).collect())?;
        }
        Ok(hub_model.with_code_of(&plan))
    }

    fn check_memory(&self, plan: &ModelPlan) -> Result<(), PipelineError> {
        let needed = self
            .job
            .and_then(|job| memory::estimate(job, slice::from_ref(plan)));
        let has = self.memory_bytes.or_else(machine::memory_bytes);
        match needed.zip(has) {
            Some((needed_bytes, has_bytes)) if needed_bytes > has_bytes => {
                Err(PipelineError::Memory {
                    needed_bytes,
                    has_bytes,
                    is_of_worker: self.memory_bytes.is_some(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// Finds a model, or fetches it.
pub(in crate::pipeline) fn resolve(
    model: &ModelSource,
    demands: &Demands<'_>,
    stopwatch: &mut Stopwatch,
    listener: &mut dyn Listener,
) -> Result<ResolvedModel, PipelineError> {
    match model {
        ModelSource::Artifact { id, path } => Ok(ResolvedModel {
            dir: path.clone(),
            source: "job",
            in_use: None,
            id: id.clone(),
            commit: None,
        }),
        ModelSource::Directory { id, path } => Ok(ResolvedModel {
            dir: path.clone(),
            source: "local",
            in_use: None,
            id: id.clone(),
            commit: None,
        }),
        ModelSource::Hub {
            id,
            revision,
            commit,
            found_at,
        } => {
            let pinned = commit.as_deref().map(|commit| (commit, *found_at));
            fetch((id, revision, pinned), demands, stopwatch, listener)
        }
    }
}

/// Fetches the configuration and the index alone first: a model that cannot be used fails before gigabytes of it are
/// fetched.
fn fetch(
    (id, revision, pinned): (&str, &str, Option<(&str, Option<SystemTime>)>),
    demands: &Demands<'_>,
    stopwatch: &mut Stopwatch,
    listener: &mut dyn Listener,
) -> Result<ResolvedModel, PipelineError> {
    let runtime = download::runtime()?;
    let options = HubOptions::from_env();
    let wanted = pinned.map_or(revision, |(commit, _)| commit);
    let hub_model = download::watched(&runtime, listener, async |_| {
        HubModel::resolve(id, wanted, &options).await
    })??;
    if pinned.is_none() {
        listener.pinned(PinnedCommit {
            id: id.to_owned(),
            revision: revision.to_owned(),
            commit: hub_model.commit().to_owned(),
        });
    }
    let hub_model =
        download::watched(&runtime, listener, async |_| demands.check(hub_model).await)??;
    stopwatch.enter(Phase::Downloading, listener);
    let fetched = download::watched(&runtime, listener, async |tell| hub_model.fetch(tell).await)??;
    if let Some((_, Some(found_at))) = pinned {
        hub_model.note_unless_newer(revision, found_at);
    }
    Ok(ResolvedModel {
        dir: fetched.dir,
        source: "hub",
        in_use: Some(fetched.in_use),
        id: id.to_owned(),
        commit: Some(fetched.commit),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::domain::ErrorCode;
    use crate::domain::attempt::Outage;
    use crate::domain::spec::EvaluateSpec;

    #[test]
    fn a_model_that_no_memory_holds_is_refused_before_it_is_fetched() {
        let plan = |hidden: u32| {
            let config = json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
                "intermediate_size": hidden, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99,
            });
            ModelPlan::parse(config.to_string().as_bytes()).unwrap()
        };
        let spec = json!({
            "model": {"source": "hub", "id": "org/name", "revision": "main"}, "baseline": null,
            "evaluation": {"perplexity": [{"dataset": "demo"}], "seq_len": null, "windows": null},
        });
        let spec: EvaluateSpec = serde_json::from_value(spec).unwrap();
        let demands = Demands {
            tokens: true,
            job: Some(&JobSpec::Evaluate(spec)),
            memory_bytes: None,
        };
        demands.check_memory(&plan(64)).unwrap();
        let error = demands.check_memory(&plan(1 << 24)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InsufficientMemory, "{error}");
        assert_eq!(
            error.outage(Path::new("/")),
            None,
            "no worker would be left out"
        );
        let demands = Demands {
            memory_bytes: Some(1 << 20),
            ..demands
        };
        let error = demands.check_memory(&plan(64)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InsufficientMemory, "{error}");
        let outage = error.outage(Path::new("/"));
        assert!(
            matches!(outage, Some(Outage::Memory(needed)) if needed > 1 << 20),
            "{outage:?}"
        );
    }
}
