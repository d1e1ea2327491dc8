//! `/v1/capabilities`: what forms and clients need to know before they submit.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::corpora::Corpus;
use crate::domain::spec::{BosRule, Guard, JobType, PruneSpec};
use crate::domain::task_info::TaskInfo;
use crate::engine::model::ARCHITECTURES;
use crate::engine::{
    ALLOCATIONS, ComparisonGroup, Pattern, Propagation, PruningMethod, REFINEMENTS, STRUCTURES,
};
use crate::http::input::query::NoParameters;
use crate::http::output::problem::Problem;
use crate::http::{BODY_LIMIT, HttpState};
use crate::request::{ARTIFACT_FORMATS, JobRequest, MODEL_SOURCES, limits};

/// What this server can do.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Capabilities {
    /// What a job can be for.
    job_types: [JobType; 2],
    /// How weights, or parts of a model, can be ranked.
    methods: Vec<&'static str>,
    /// Those that remove whole parts, and take nothing that is asked of linears.
    structures: [&'static str; STRUCTURES.len()],
    /// Whose scores a method can compare where the pattern is unstructured.
    groups: [&'static str; ComparisonGroup::ALL.len()],
    /// What can change the mask of a method.
    refinements: [&'static str; REFINEMENTS.len()],
    /// Where the inputs can come from that linears are pruned by.
    propagations: [&'static str; Propagation::ALL.len()],
    /// How zeros can be shared among blocks.
    allocations: [&'static str; ALLOCATIONS.len()],
    /// What `pattern` can be.
    patterns: Patterns,
    /// Registered texts that are available, from the data directory or from the hub; files below the data directory can be used as `local` besides.
    datasets: Datasets,
    /// Every declared task.
    tasks: Vec<TaskInfo>,
    /// Whether a token for the beginning of text goes before a task's context.
    bos_rules: [BosRule; 2],
    /// Where models can come from.
    model_sources: [&'static str; 3],
    /// Architectures by their name in `config.json`.
    architectures: [&'static str; ARCHITECTURES.len()],
    /// The formats of artifacts.
    artifact_formats: [&'static str; 1],
    /// The devices of this server's own workers.
    devices: Vec<String>,
    /// What a submission may leave out.
    defaults: CapabilityDefaults,
    /// What a submission may ask for.
    limits: CapabilityLimits,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Datasets {
    /// To calibrate on.
    calibration: Vec<String>,
    /// To measure perplexity on.
    evaluation: Vec<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Patterns {
    /// The patterns with a name.
    named: [&'static str; Pattern::NAMED.len()],
    /// Any `N:M` with `1 <= N < M`, and M at most this.
    max_group: usize,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct CapabilityDefaults {
    method: &'static str,
    #[schema(value_type = String)]
    pattern: Pattern,
    calibration_dataset: String,
    n_samples: usize,
    seed: u64,
    perplexity: Vec<String>,
    /// The most tokens of each text; `null` = all.
    max_tokens: Option<usize>,
    bos: BosRule,
    guard: Guard,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Limits)]
struct CapabilityLimits {
    body_bytes: usize,
    n_samples: u64,
    min_seq_len: u64,
    max_seq_len: u64,
    rules: usize,
    rule_chars: usize,
    perplexity_texts: usize,
    tasks: usize,
    name_chars: usize,
    metadata_pairs: usize,
    metadata_key_chars: usize,
    metadata_value_chars: usize,
    min_priority: i32,
    max_priority: i32,
    submitter_chars: usize,
}

/// See what this server can do
#[utoipa::path(
    get, path = "/v1/capabilities", tag = "operations",
    responses((status = 200, description = "Types of jobs, methods, patterns, data sets, tasks, devices, defaults, limits", body = Capabilities))
)]
pub(super) async fn get_capabilities(
    _: NoParameters,
    State(state): State<HttpState>,
) -> Result<Json<Capabilities>, Problem> {
    let datasets = state.jobs.datasets().await?;
    let names = |corpora: &[&Corpus]| {
        corpora
            .iter()
            .map(|corpus| corpus.name.to_owned())
            .collect()
    };
    Ok(Json(Capabilities {
        job_types: JobType::ALL,
        methods: PruningMethod::names(),
        structures: STRUCTURES.map(|structure| structure.name()),
        groups: ComparisonGroup::ALL.map(ComparisonGroup::name),
        refinements: REFINEMENTS.map(|refinement| refinement.name()),
        propagations: Propagation::ALL.map(Propagation::name),
        allocations: ALLOCATIONS.map(|allocation| allocation.name()),
        patterns: Patterns {
            named: Pattern::NAMED,
            max_group: Pattern::MAX_GROUP,
        },
        datasets: Datasets {
            calibration: names(&datasets.calibration),
            evaluation: names(&datasets.evaluation),
        },
        tasks: datasets.tasks,
        bos_rules: BosRule::ALL,
        model_sources: MODEL_SOURCES,
        architectures: ARCHITECTURES,
        artifact_formats: ARTIFACT_FORMATS,
        devices: state.devices.to_vec(),
        defaults: usual(&JobRequest::usual(state.jobs.defaults())),
        limits: limits(),
    }))
}

fn usual(spec: &PruneSpec) -> CapabilityDefaults {
    let texts = spec.evaluation.perplexity.iter();
    CapabilityDefaults {
        method: spec.method.name(),
        pattern: spec.pattern,
        calibration_dataset: spec.calibration.dataset.name().to_owned(),
        n_samples: spec.calibration.n_samples,
        seed: spec.calibration.seed,
        perplexity: texts.map(|text| text.name().to_owned()).collect(),
        max_tokens: spec.evaluation.max_tokens,
        bos: spec.evaluation.bos,
        guard: spec.evaluation.guard,
    }
}

fn limits() -> CapabilityLimits {
    CapabilityLimits {
        body_bytes: BODY_LIMIT,
        n_samples: limits::N_SAMPLES,
        min_seq_len: *limits::SEQ_LEN.start(),
        max_seq_len: *limits::SEQ_LEN.end(),
        rules: limits::RULES,
        rule_chars: limits::RULE_CHARS,
        perplexity_texts: limits::PERPLEXITY_TEXTS,
        tasks: limits::TASKS,
        name_chars: limits::NAME_CHARS,
        metadata_pairs: limits::METADATA_PAIRS,
        metadata_key_chars: limits::METADATA_KEY_CHARS,
        metadata_value_chars: limits::METADATA_VALUE_CHARS,
        min_priority: *limits::PRIORITY.start(),
        max_priority: *limits::PRIORITY.end(),
        submitter_chars: limits::SUBMITTER_CHARS,
    }
}
