//! Trace context between programs: the `traceparent` header of W3C.
//!
//! Without a collector (`--otlp-endpoint`) there are no traces, and nothing here does anything.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// Makes `span` a child of the span that a client names; one that is not well-formed is ignored.
pub fn continue_from(span: &Span, traceparent: &str) {
    if let Some(parent) = parse(traceparent) {
        // Fails only where there are no traces.
        drop(span.set_parent(Context::new().with_remote_span_context(parent)));
    }
    note(span);
}

/// Links a new trace to the span that caused it, perhaps hours ago.
pub fn link(span: &Span, traceparent: Option<&str>) {
    if let Some(origin) = traceparent.and_then(parse) {
        span.add_link(origin);
    }
    note(span);
}

/// The current span as a `traceparent`.
pub fn current() -> Option<String> {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
    headers.remove(TRACEPARENT)
}

/// Records the trace's id in the span's log lines.
fn note(span: &Span) {
    let context = span.context();
    let context = context.span().span_context().clone();
    if context.is_valid() {
        span.record("trace.id", tracing::field::display(context.trace_id()));
    }
}

fn parse(traceparent: &str) -> Option<SpanContext> {
    let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&headers);
    let parsed = context.span().span_context().clone();
    parsed.is_valid().then_some(parsed)
}
