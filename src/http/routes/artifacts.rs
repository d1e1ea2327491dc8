//! `/v1/jobs/{id}/artifacts` and its files.

use std::path::Path;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path as PathParts, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::ErrorCode;
use crate::domain::report::manifest::FileEntry;
use crate::http::HttpState;
use crate::http::input::conditional::{RequestedPart, is_unchanged, part, quoted};
use crate::http::input::path::JobPath;
use crate::http::input::query::NoParameters;
use crate::http::output::problem::Problem;
use crate::jobs::ArtifactFile;

/// The files of an artifact.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ArtifactList)]
pub(super) struct ArtifactsView {
    /// Always `list`.
    object: &'static str,
    /// Sorted by name; `secateur.json` is among them.
    data: Vec<FileEntry>,
}

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
        (status = 200, description = "The file", content(
            (Vec<u8> = "application/octet-stream"),
            (serde_json::Value = "application/json"),
        ), headers(
            ("ETag" = String, description = "SHA-256 of the file"),
            ("Accept-Ranges" = String, description = "bytes"),
            ("Content-Disposition" = String, description = "attachment"),
        )),
        (status = 206, description = "The requested part", content(
            (Vec<u8> = "application/octet-stream"),
            (Vec<u8> = "application/json"),
        ), headers(
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
    let etag = quoted(&file.entry.sha256);
    if is_unchanged(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let size = file.entry.size_bytes;
    // Ranges are defined for GET alone.
    let part = if method == Method::HEAD {
        RequestedPart::Whole
    } else {
        part(&headers, &etag, size)
    };
    let (status, range) = match part {
        RequestedPart::Whole => (StatusCode::OK, 0..size),
        RequestedPart::Range(range) => (StatusCode::PARTIAL_CONTENT, range),
        RequestedPart::Outside => return Ok(not_satisfiable(size)),
    };
    let length = range.end - range.start;
    // The bucket knows another `ETag`: it cannot tell whether a part is still current.
    let can_redirect = method == Method::GET && !headers.contains_key(header::IF_RANGE);
    if can_redirect && let Some(url) = state.jobs.artifact_link(&file, &disposition(&file)).await? {
        return Ok(redirect(url));
    }
    let content_range = format!(
        "bytes {}-{}/{size}",
        range.start,
        range.end.saturating_sub(1)
    );
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        Body::from_stream(state.jobs.read_artifact(&file, range).await?)
    };
    let mut response = (status, file_headers(&file, etag, length), body).into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = content_range.parse()
    {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

fn not_satisfiable(size: u64) -> Response {
    let detail = format!("the range lies outside the file of {size} bytes");
    let problem = Problem::new(ErrorCode::RangeNotSatisfiable, detail);
    let content_range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
    (content_range, problem).into_response()
}

fn file_headers(
    file: &ArtifactFile,
    etag: String,
    length: u64,
) -> [(header::HeaderName, String); 5] {
    let kind = if Path::new(&file.entry.name)
        .extension()
        .is_some_and(|kind| kind == "json")
    {
        "application/json"
    } else {
        "application/octet-stream"
    };
    [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, disposition(file)),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, etag),
    ]
}

/// Quotes the file's name; characters that a quoted string cannot hold are left out.
fn disposition(file: &ArtifactFile) -> String {
    let name: String = file
        .entry
        .name
        .chars()
        .filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'))
        .collect();
    format!("attachment; filename=\"{name}\"")
}

/// Sends the client to the bucket. The answer must not be stored: its URL works like a password.
fn redirect(url: String) -> Response {
    let headers = [
        (header::LOCATION, url),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::TEMPORARY_REDIRECT, headers).into_response()
}
