//! `/v1/models`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::domain::ErrorCode;
use crate::domain::spec::ModelRef;
use crate::http::HttpState;
use crate::http::input::query::NoParameters;
use crate::http::output::problem::Problem;
use crate::jobs::FoundModel;

/// A model that lies on the server's machine.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Model)]
struct ModelView {
    /// Always `model`.
    object: &'static str,
    /// What a submission says to use it. The revision of a cached model is its commit.
    model: ModelRef,
    /// Bytes of its weight files.
    size_bytes: u64,
    /// The architecture named in `config.json`; `null` where the model cannot be used.
    architecture: Option<&'static str>,
    /// Number of decoder blocks.
    blocks: Option<usize>,
    /// Longest context in tokens.
    max_seq_len: Option<usize>,
    /// Why a submission of it is refused; `null` where it is not.
    problem: Option<ModelProblem>,
}

/// Why a model cannot be used.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ModelProblem {
    /// The stable reason.
    code: ErrorCode,
    /// What is wrong, with the facts.
    detail: String,
}

/// The models on the server's machine.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ModelList {
    /// Always `list`.
    object: &'static str,
    /// Local ones by their ids, then cached ones.
    data: Vec<ModelView>,
}

impl From<FoundModel> for ModelView {
    fn from(found: FoundModel) -> Self {
        let plan = found.plan.as_ref().ok();
        Self {
            object: "model",
            model: found.model,
            size_bytes: found.size_bytes,
            architecture: plan.map(|plan| plan.architecture),
            blocks: plan.map(|plan| plan.blocks.len()),
            max_seq_len: plan.map(|plan| plan.max_seq_len),
            problem: found
                .plan
                .err()
                .map(|(code, detail)| ModelProblem { code, detail }),
        }
    }
}

/// List the models on the server's machine
///
/// Directories of the models directory, the bundled model, and what lies complete in the cache of the hub. A job can name any
/// other model of the hub as well.
#[utoipa::path(
    get, path = "/models", tag = "operations",
    responses((status = 200, description = "All of them", body = ModelList))
)]
pub(super) async fn list_models(
    _: NoParameters,
    State(state): State<HttpState>,
) -> Result<Json<ModelList>, Problem> {
    let models = state.jobs.models().await?;
    Ok(Json(ModelList {
        object: "list",
        data: models.into_iter().map(ModelView::from).collect(),
    }))
}
