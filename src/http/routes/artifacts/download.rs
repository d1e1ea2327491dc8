//! Downloads that can be checked and resumed: `ETag`, `Range`, `If-Range`, `If-None-Match`, `HEAD`.

use std::ops::{ControlFlow, Range};

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::domain::ErrorCode;
use crate::http::input::conditional::{RequestedPart, is_unchanged, part, quoted};
use crate::http::output::problem::Problem;

/// What is downloaded never changes while it is there.
const CACHE: &str = "private, max-age=31536000, immutable";

/// A file, or all files in one.
pub(super) struct Download {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) sha256: String,
    pub(super) size: u64,
}

/// The bytes that are sent.
pub(super) struct SentRange {
    pub(super) range: Range<u64>,
    /// Whether a range was asked for.
    is_part: bool,
}

impl Download {
    /// The bytes to send, or the answer that needs none.
    pub(super) fn requested(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> ControlFlow<Response, SentRange> {
        let etag = quoted(&self.sha256);
        if is_unchanged(headers, &etag) {
            let tag = [
                (header::ETAG, etag),
                (header::CACHE_CONTROL, CACHE.to_owned()),
            ];
            return ControlFlow::Break((StatusCode::NOT_MODIFIED, tag).into_response());
        }
        // Ranges are defined for GET alone.
        if method == Method::HEAD {
            return ControlFlow::Break(self.answer(StatusCode::OK, self.size, Body::empty()));
        }
        match part(headers, &etag, self.size) {
            RequestedPart::Whole => ControlFlow::Continue(SentRange {
                range: 0..self.size,
                is_part: false,
            }),
            RequestedPart::Range(range) => ControlFlow::Continue(SentRange {
                range,
                is_part: true,
            }),
            RequestedPart::Outside => ControlFlow::Break(not_satisfiable(self.size)),
        }
    }

    /// The answer with these bytes.
    pub(super) fn send(&self, SentRange { range, is_part }: &SentRange, body: Body) -> Response {
        let length = range.end - range.start;
        if !is_part {
            return self.answer(StatusCode::OK, length, body);
        }
        let mut response = self.answer(StatusCode::PARTIAL_CONTENT, length, body);
        let last = range.end.saturating_sub(1);
        let content_range = format!("bytes {}-{last}/{}", range.start, self.size);
        if let Ok(value) = content_range.parse() {
            response.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        response
    }

    fn answer(&self, status: StatusCode, length: u64, body: Body) -> Response {
        let headers = [
            (header::CONTENT_TYPE, self.kind.to_owned()),
            (header::CONTENT_LENGTH, length.to_string()),
            (header::CONTENT_DISPOSITION, self.disposition()),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
            (header::ETAG, quoted(&self.sha256)),
            (header::CACHE_CONTROL, CACHE.to_owned()),
        ];
        (status, headers, body).into_response()
    }

    /// Quotes the name; characters that a quoted string cannot hold are left out.
    pub(super) fn disposition(&self) -> String {
        let is_plain = |c: &char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        let name: String = self.name.chars().filter(is_plain).collect();
        format!("attachment; filename=\"{name}\"")
    }
}

fn not_satisfiable(size: u64) -> Response {
    let detail = format!("the range lies outside the file of {size} bytes");
    let problem = Problem::new(ErrorCode::RangeNotSatisfiable, detail);
    let content_range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
    (content_range, problem).into_response()
}
