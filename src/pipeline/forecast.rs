//! What jobs would take, before they begin: nothing but the description of a model is fetched.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::hub::{HubModel, HubOptions};
use super::plan::ModelSource;
use super::resolve::network_runtime;
use super::{DeviceName, PipelineError};
use crate::domain::ErrorCode;
use crate::domain::spec::{JobSpec, memory, work};
use crate::engine::model::LinearSpec;
use crate::engine::{Checkpoint, ModelPlan, Pruning, PruningMethod, Targets};

/// Rows and columns of the products that are timed.
const PROBE: usize = 1024;

/// How often one is.
const PROBES: usize = 8;

/// What jobs on one model take together.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// The class that `config.json` names.
    pub architecture: &'static str,
    /// The commit of a model of the hub.
    pub commit: Option<String>,
    /// Decoder blocks.
    pub blocks: usize,
    /// Linears of all blocks.
    pub linears: usize,
    /// Weights of the linears, which are all that becomes zero.
    pub weights: u64,
    /// Each rule by the names of linears, and those that go by it.
    pub rules: Vec<(String, Vec<String>)>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of all artifacts.
    pub artifact_bytes: u64,
    /// Bytes that the cache lacks of the models.
    pub download_bytes: u64,
    /// Seconds of pruning.
    pub pruning_seconds: f64,
    /// Seconds of measuring perplexity; `None` where that depends on the length of a text.
    pub measuring_seconds: Option<f64>,
}

/// Looks at the model, and at the one that it is compared with, and times a few products on the device.
pub fn forecast(
    model: &ModelSource,
    baseline: Option<&ModelSource>,
    specs: &[JobSpec],
    device: &DeviceName,
) -> Result<Forecast, PipelineError> {
    let own = Found::look(model)?;
    let baseline = baseline.map(Found::look).transpose()?;
    let mut plans = vec![own.plan.clone()];
    plans.extend(baseline.iter().map(|found| found.plan.clone()));
    let prunings: Vec<_> = specs.iter().filter_map(pruning).collect();
    for pruning in &prunings {
        pruning.check(&own.plan)?;
    }
    let rules = prunings
        .first()
        .map(|pruning| rules(&pruning.targets, &own.plan));
    let artifacts = prunings.iter();
    let artifacts = artifacts.map(|pruning| pruning.most_bytes(&own.plan, own.size_bytes));
    let per_second = multiplications_per_second(&device.open()?)?;
    let works: Vec<_> = specs
        .iter()
        .map(|spec| work::estimate(spec, &own.plan))
        .collect();
    // One pass ranks parts for every sparsity.
    let is_done = |at: usize| {
        let ranks = matches!(specs[at].method(), Some(PruningMethod::Parts(_)));
        let mut before = specs[..at].iter();
        ranks && before.any(|spec| spec.method() == specs[at].method())
    };
    let passes = works.iter().enumerate().filter(|(at, _)| !is_done(*at));
    let pruning: u64 = passes.map(|(_, work)| work.pruning).sum();
    // What all are compared with is measured once.
    let compared = specs.iter().position(JobSpec::is_comparison);
    let compared = compared.map(|at| &works[at]);
    let comparing = compared.map(|work| work.comparing);
    let measured = works.iter().map(|work| work.measuring).chain(comparing);
    let measuring: Option<u64> = measured.sum();
    let memory = specs
        .iter()
        .filter_map(|spec| memory::estimate(spec, &plans));
    Ok(Forecast {
        architecture: own.plan.architecture,
        commit: own.commit,
        blocks: own.plan.blocks.len(),
        linears: own.plan.linears().count(),
        weights: own.plan.linears().map(LinearSpec::weights).sum(),
        rules: rules.transpose()?.unwrap_or_default(),
        memory_bytes: memory.max().unwrap_or_default(),
        artifact_bytes: artifacts.sum(),
        download_bytes: own.missing_bytes + baseline.map_or(0, |found| found.missing_bytes),
        pruning_seconds: pruning as f64 / per_second,
        measuring_seconds: measuring.map(|measuring| measuring as f64 / per_second),
    })
}

fn pruning(spec: &JobSpec) -> Option<Pruning> {
    match spec {
        JobSpec::Prune(spec) => Some(spec.pruning()),
        JobSpec::Evaluate(_) => None,
    }
}

fn rules(targets: &Targets, plan: &ModelPlan) -> Result<Vec<(String, Vec<String>)>, PipelineError> {
    let named = targets.linears_by_rule(plan)?.into_iter();
    let named = named.map(|names| names.into_iter().map(str::to_owned).collect());
    let rules = targets.rules.iter().map(ToString::to_string);
    Ok(rules.zip(named).collect())
}

/// What is known of a model that was not fetched.
struct Found {
    commit: Option<String>,
    plan: ModelPlan,
    size_bytes: u64,
    missing_bytes: u64,
}

impl Found {
    fn look(model: &ModelSource) -> Result<Self, PipelineError> {
        match model {
            ModelSource::Directory { path, .. } | ModelSource::Artifact { path, .. } => Ok(Self {
                commit: None,
                plan: ModelPlan::read(path)?,
                size_bytes: Checkpoint::open(path)?.tensor_bytes(),
                missing_bytes: 0,
            }),
            ModelSource::Hub { id, revision, .. } => network_runtime()?.block_on(async {
                let found = HubModel::resolve(id, revision, &HubOptions::from_env()).await?;
                let config = found.fetch_config().await?;
                let plan = ModelPlan::read(config.parent().unwrap_or(&config))?;
                let found = found.with_code_of(&plan);
                let (size_bytes, missing_bytes) = found.sizes().await?;
                Ok(Self {
                    commit: Some(found.commit().to_owned()),
                    plan,
                    size_bytes,
                    missing_bytes,
                })
            }),
        }
    }
}

fn multiplications_per_second(device: &Device) -> Result<f64, PipelineError> {
    let timed = || {
        let a = Tensor::ones((PROBE, PROBE), DType::F32, device)?;
        let warm = a.matmul(&a)?;
        device.synchronize()?;
        let began = Instant::now();
        for _ in 0..PROBES {
            warm.matmul(&a)?;
        }
        device.synchronize()?;
        Ok::<_, candle_core::Error>(began.elapsed().as_secs_f64())
    };
    let seconds =
        timed().map_err(|error| PipelineError::refused(ErrorCode::Internal, error.to_string()))?;
    Ok((PROBES * PROBE.pow(3)) as f64 / seconds)
}
