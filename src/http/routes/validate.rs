//! `/v1/jobs:validate`.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::idempotency::OnDuplicate;
use crate::domain::job::{Job, Metadata};
use crate::domain::queue::WaitReason;
use crate::domain::queue::places::Places;
use crate::domain::spec::{JobSpec, ModelRef, StoredSpec};
use crate::engine::ModelPlan;
use crate::engine::model::LinearSpec;
use crate::http::HttpState;
use crate::http::input::body::JsonBody;
use crate::http::input::body_schema::JobBody;
use crate::http::input::query::NoParameters;
use crate::http::output::problem::{FieldProblem, Problem};
use crate::http::output::turn::ResourcesView;
use crate::jobs::{Acceptable, CheckedModel, Validation};

/// What would become of a submission.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
#[schema(as = JobValidation)]
pub(super) struct ValidationView {
    /// Always `job.validation`.
    object: &'static str,
    /// Whether it would be accepted.
    valid: bool,
    /// Everything that is wrong with it.
    problems: Vec<FieldProblem>,
    /// What could not be looked at, such as a model of a hub that does not answer.
    unchecked: Vec<UncheckedField>,
    /// The body with every default filled in; `null` unless it is valid, as is everything below.
    request: Option<RequestView>,
    /// Its models, as far as they are known.
    models: Vec<ModelDetails>,
    /// What would be pruned; `null` for evaluations, and where the model is not known.
    pruning: Option<PruningView>,
    /// What the job would need.
    needs: Option<NeedsView>,
    /// Why it would wait.
    status_reason: Option<WaitReason>,
    /// What would help, where that can be said.
    status_detail: Option<String>,
}

/// A field that could not be checked.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct UncheckedField {
    /// Where in the body, as a JSON pointer.
    pointer: String,
    /// Why.
    detail: String,
}

/// A submission with every default filled in: itself a body that can be submitted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobRequest)]
struct RequestView {
    /// The submitter's name for the job.
    name: Option<String>,
    /// The submitter's key-value pairs.
    #[schema(inline)]
    metadata: Metadata,
    /// What to do.
    #[serde(flatten)]
    #[schema(value_type = JobSpec)]
    spec: StoredSpec,
    /// Higher ones are claimed first.
    priority: i32,
    /// The submitter.
    submitter: String,
    /// It does not start earlier; `null` = at once.
    #[schema(value_type = Option<String>, format = DateTime)]
    run_after: Option<Timestamp>,
    /// What it asks for of a worker.
    resources: ResourcesView,
    /// Time after its acceptance at which it fails unless it is over.
    deadline_seconds: Option<u64>,
    /// What becomes of it where the same work is done already.
    on_duplicate: OnDuplicate,
}

/// A model of a submission.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ModelDetails {
    /// Its field, as a JSON pointer.
    pointer: String,
    /// Which one.
    model: ModelRef,
    /// The commit that its revision stands for now; `null` unless it is a model of the hub that was asked.
    commit: Option<String>,
    /// The architecture named in `config.json`.
    architecture: Option<&'static str>,
    /// Number of decoder blocks.
    blocks: Option<usize>,
    /// Longest context in tokens.
    max_seq_len: Option<usize>,
    /// Bytes of its weights; with the files beside them for a model of the hub.
    size_bytes: Option<u64>,
    /// Bytes that the cache of the server's machine lacks; `null` for models that are not fetched.
    download_bytes: Option<u64>,
}

/// What would be pruned.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct PruningView {
    /// Number of linears.
    linears: usize,
    /// Weights of all of them.
    weights: u64,
}

/// What a job would need.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobNeeds)]
struct NeedsView {
    /// Bytes of memory; `null` = not known.
    memory_bytes: Option<u64>,
    /// Bytes of disk for its artifact; `null` = not known, or it leaves no weights.
    disk_bytes: Option<u64>,
    /// Seconds that it may run, as fast as the last jobs of about its size; `null` = not known.
    seconds: Option<u64>,
    /// Bytes to fetch of its models; `null` = not known.
    download_bytes: Option<u64>,
    /// Its data sets that come from the hub, or from its cache; not counted in `download_bytes`.
    data_sets: Vec<String>,
}

/// Check a submission
///
/// Takes the body of a submission and makes no job. Answers everything that is wrong with it at once, what only a look at its
/// models tells included; and what the job would be and need if nothing is. What could not be looked at, such as a model of a hub
/// that does not answer, is no problem of the body and stands in `unchecked`.
#[utoipa::path(
    post, path = "/jobs:validate", tag = "jobs",
    request_body(content = JobBody, content_type = "application/json"),
    responses(
        (status = 200, description = "What would become of it", body = ValidationView),
        (status = 400, description = "`invalid_request`: the body is no JSON"),
        (status = 403, description = "`cross_origin`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
    )
)]
pub(super) async fn validate_job(
    _: NoParameters,
    State(state): State<HttpState>,
    body: JsonBody,
) -> Result<Json<ValidationView>, Problem> {
    let validation = state.jobs.validate(&body.0).await?;
    let mut view = ValidationView::new(&validation);
    if let Some(accepted) = validation.accepted {
        let cluster = state.jobs.cluster_state().await;
        let waiting = cluster.and_then(|cluster| cluster.why_waits(&accepted.job));
        (view.status_reason, view.status_detail) = waiting.map_or((None, None), |waiting| {
            (Some(waiting.reason), waiting.detail)
        });
        let pace = state.jobs.pace().await;
        view.accept(accepted, &pace);
    }
    Ok(Json(view))
}

impl ValidationView {
    fn new(validation: &Validation) -> Self {
        let errors = validation.errors.iter().cloned().map(FieldProblem::from);
        let refusals = validation.refusals.iter().map(FieldProblem::from);
        Self {
            object: "job.validation",
            valid: validation.accepted.is_some(),
            problems: errors.chain(refusals).collect(),
            ..Self::default()
        }
    }

    fn accept(&mut self, accepted: Acceptable, pace: &Places) {
        let spec = accepted.job.spec.known();
        let is_pruning = spec.is_some_and(|spec| spec.method().is_some());
        let models = &accepted.models;
        let unchecked = models.iter().filter_map(UncheckedField::of);
        self.unchecked = unchecked.collect();
        let pruned = models.first().filter(|_| is_pruning);
        let plan = pruned.and_then(|model| model.plan.as_ref().ok());
        self.pruning = plan.map(PruningView::of);
        self.needs = Some(NeedsView {
            memory_bytes: accepted.job.scheduling.memory_bytes,
            disk_bytes: accepted.job.scheduling.disk_bytes,
            seconds: pace.expected_run(&accepted.job).map(|run| run.as_secs()),
            download_bytes: download_bytes(models),
            data_sets: accepted.data_sets,
        });
        self.models = accepted.models.into_iter().map(ModelDetails::of).collect();
        self.request = Some(RequestView::of(accepted.job, accepted.on_duplicate));
    }
}

/// Bytes to fetch of models, each commit once; `None` where they are not known of every one.
fn download_bytes(models: &[CheckedModel]) -> Option<u64> {
    let (mut counted, mut bytes) = (BTreeSet::new(), 0);
    for model in models {
        if let ModelRef::Hub { id, .. } = &model.model
            && counted.insert((id, &model.commit))
        {
            bytes += model.download_bytes?;
        }
    }
    Some(bytes)
}

impl UncheckedField {
    fn of(model: &CheckedModel) -> Option<Self> {
        let reason = model.plan.as_ref().err()?;
        Some(Self {
            pointer: model.pointer.to_owned(),
            detail: format!("the model could not be looked at: {reason}"),
        })
    }
}

impl PruningView {
    fn of(plan: &ModelPlan) -> Self {
        Self {
            linears: plan.linears().count(),
            weights: plan.linears().map(LinearSpec::weights).sum(),
        }
    }
}

impl ModelDetails {
    fn of(checked: CheckedModel) -> Self {
        let plan = checked.plan.as_ref().ok();
        Self {
            pointer: checked.pointer.to_owned(),
            commit: checked.commit,
            architecture: plan.map(|plan| plan.architecture),
            blocks: plan.map(|plan| plan.blocks.len()),
            max_seq_len: plan.map(|plan| plan.max_seq_len),
            size_bytes: checked.size_bytes,
            download_bytes: checked.download_bytes,
            model: checked.model,
        }
    }
}

impl RequestView {
    fn of(job: Job, on_duplicate: OnDuplicate) -> Self {
        let scheduling = job.scheduling;
        Self {
            name: job.name,
            metadata: job.metadata,
            spec: job.spec,
            priority: scheduling.priority,
            submitter: scheduling.submitter,
            run_after: (job.run_after > job.created_at).then_some(job.run_after),
            resources: ResourcesView {
                device: scheduling.device_kind,
            },
            on_duplicate,
            deadline_seconds: scheduling.deadline_after.map(|after| after.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(model: ModelRef, commit: Option<&str>, download_bytes: Option<u64>) -> CheckedModel {
        CheckedModel {
            pointer: "/model",
            model,
            commit: commit.map(str::to_owned),
            plan: Err("it does not matter here".to_owned()),
            size_bytes: None,
            changed_at: None,
            download_bytes,
        }
    }

    fn on_hub(revision: &str, commit: Option<&str>, download_bytes: Option<u64>) -> CheckedModel {
        let reference = ModelRef::Hub {
            id: "org/name".to_owned(),
            revision: revision.to_owned(),
        };
        model(reference, commit, download_bytes)
    }

    #[test]
    fn a_commit_that_two_models_name_is_fetched_once() {
        let main = || on_hub("main", Some("a"), Some(3));
        let local = ModelRef::Local {
            id: "own".to_owned(),
        };
        let local = || model(local.clone(), None, None);
        assert_eq!(download_bytes(&[main(), main()]), Some(3));
        let tag = on_hub("v1", Some("a"), Some(3));
        assert_eq!(download_bytes(&[main(), tag]), Some(3));
        let other = on_hub("v2", Some("b"), Some(4));
        assert_eq!(download_bytes(&[main(), other, local()]), Some(7));
        let unchecked = on_hub("main", None, None);
        assert_eq!(download_bytes(&[main(), unchecked]), None);
        assert_eq!(download_bytes(&[local()]), Some(0));
    }
}
