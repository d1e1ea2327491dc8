//! `/v1/jobs/{id}/artifacts`, its files, and all of them as `/v1/jobs/{id}/archive`.

mod download;

use std::ops::ControlFlow;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path as PathParts, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

use crate::domain::report::manifest::FileEntry;
use crate::http::HttpState;
use crate::http::input::path::JobPath;
use crate::http::input::query::NoParameters;
use crate::http::output::problem::Problem;
use download::Download;

/// The files of an artifact.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ArtifactList)]
pub(super) struct ArtifactsView {
    /// Always `list`.
    object: &'static str,
    /// Sorted by name; `secateur.json` is among them.
    data: Vec<FileEntry>,
}

/// The bytes of a file, for the description of the API.
struct FileBytes;

impl utoipa::PartialSchema for FileBytes {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        let bytes = ObjectBuilder::new().schema_type(Type::String);
        bytes.format(Some(binary)).into()
    }
}

impl utoipa::ToSchema for FileBytes {}

/// List the files of an artifact
#[utoipa::path(
    get, path = "/jobs/{id}/artifacts", tag = "results",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The files", body = ArtifactsView),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`results_not_ready`"),
    )
)]
pub(super) async fn list_artifacts(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
) -> Result<Json<ArtifactsView>, Problem> {
    let data = state.jobs.publication(id).await?.files;
    Ok(Json(ArtifactsView {
        object: "list",
        data,
    }))
}

/// Download a file
///
/// The `ETag` is the file's SHA-256. An interrupted download goes on with `Range` and `If-Range`. Where the artifacts
/// lie in a bucket, a `GET` without `If-Range` is sent there.
#[utoipa::path(
    method(get, head), path = "/jobs/{id}/artifacts/{name}", tag = "results",
    params(
        ("id" = String, Path, description = "The job"),
        ("name" = String, Path, description = "The file", example = "model.safetensors"),
        ("Range" = Option<String>, Header, description = "One range of bytes", example = "bytes=1048576-"),
        ("If-Range" = Option<String>, Header, description = "`ETag` of the part that is there already"),
        ("If-None-Match" = Option<String>, Header, description = "`ETag` of a complete copy"),
    ),
    responses(
        (status = 200, description = "The file", body = FileBytes, content_type = "application/octet-stream", headers(
            ("ETag" = String, description = "SHA-256 of the file"),
            ("Accept-Ranges" = String, description = "bytes"),
            ("Content-Disposition" = String, description = "attachment"),
        )),
        (status = 206, description = "The requested part", body = FileBytes, content_type = "application/octet-stream", headers(
            ("Content-Range" = String, description = "Which part of how much"),
        )),
        (status = 304, description = "The copy is current"),
        (status = 307, description = "The file is at `Location`, for five minutes"),
        (status = 404, description = "`job_not_found`, `artifact_not_found`"),
        (status = 416, description = "`range_not_satisfiable`"),
    )
)]
pub(super) async fn get_artifact(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    PathParts((_, name)): PathParts<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = state.jobs.artifact(id, &name).await?;
    let download = Download {
        kind: "application/octet-stream",
        name: file.entry.name.clone(),
        sha256: file.entry.sha256.clone(),
        size: file.entry.size_bytes,
    };
    let sent = match download.requested(&method, &headers) {
        ControlFlow::Continue(sent) => sent,
        ControlFlow::Break(response) => return Ok(response),
    };
    // The bucket knows another `ETag`: it cannot tell whether a part is still current.
    if !headers.contains_key(header::IF_RANGE)
        && let Some(url) = state
            .jobs
            .artifact_link(&file, &download.disposition())
            .await?
    {
        return Ok(redirect(url));
    }
    let bytes = state.jobs.read_artifact(&file, sent.range.clone()).await?;
    Ok(download.send(&sent, Body::from_stream(bytes)))
}

/// Download all files of an artifact
///
/// One uncompressed tar archive with a directory of the job's id. It is made while it is sent, always of the same bytes: an
/// interrupted download goes on with `Range` and `If-Range`. The list of files has the SHA-256 of each.
#[utoipa::path(
    method(get, head), path = "/jobs/{id}/archive", tag = "results",
    params(
        ("id" = String, Path, description = "The job"),
        ("Range" = Option<String>, Header, description = "One range of bytes", example = "bytes=1048576-"),
        ("If-Range" = Option<String>, Header, description = "`ETag` of the part that is there already"),
        ("If-None-Match" = Option<String>, Header, description = "`ETag` of a complete copy"),
    ),
    responses(
        (status = 200, description = "The archive", body = FileBytes, content_type = "application/x-tar", headers(
            ("ETag" = String, description = "Of names, lengths and digests of the files"),
            ("Accept-Ranges" = String, description = "bytes"),
            ("Content-Disposition" = String, description = "attachment"),
        )),
        (status = 206, description = "The requested part", body = FileBytes, content_type = "application/x-tar", headers(
            ("Content-Range" = String, description = "Which part of how much"),
        )),
        (status = 304, description = "The copy is current"),
        (status = 404, description = "`job_not_found`"),
        (status = 409, description = "`results_not_ready`"),
        (status = 416, description = "`range_not_satisfiable`"),
    )
)]
pub(super) async fn get_archive(
    _: NoParameters,
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let archive = state.jobs.archive(id).await?;
    let download = Download {
        kind: "application/x-tar",
        name: format!("{id}.tar"),
        sha256: archive.sha256(),
        size: archive.size(),
    };
    match download.requested(&method, &headers) {
        ControlFlow::Continue(sent) => {
            let bytes = state.jobs.read_archive(archive, sent.range.clone());
            Ok(download.send(&sent, Body::from_stream(bytes)))
        }
        ControlFlow::Break(response) => Ok(response),
    }
}

/// Sends the client to the bucket. The answer must not be stored: its URL works like a password.
fn redirect(url: String) -> Response {
    let headers = [
        (header::LOCATION, url),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::TEMPORARY_REDIRECT, headers).into_response()
}
