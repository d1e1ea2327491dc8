//! `/v1/webhooks` and what lies below it.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::webhook::{Delivery, DeliveryError, DeliveryState, Webhook, WebhookEvent};
use crate::http::HttpState;
use crate::http::input::body::JsonBody;
use crate::http::input::body_schema::{WebhookBody, WebhookChangeBody};
use crate::http::input::path::{DeliveryPath, WebhookPath};
use crate::http::input::query::{NoParameters, Parameters};
use crate::http::output::problem::Problem;

const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;

/// Digits of the longest number of a delivery: more is none.
const MAX_DIGITS: usize = 18;

/// A webhook.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Webhook)]
pub(super) struct WebhookView {
    /// Sorts by the time of registration.
    id: String,
    /// Always `webhook`.
    object: &'static str,
    /// Where the messages go.
    url: String,
    /// What its owner says about it.
    description: Option<String>,
    /// The events it gets.
    events: Vec<WebhookEvent>,
    /// Whether anything is sent. A receiver that answers 410 ends it.
    enabled: bool,
    /// Since when not.
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    /// Until when messages are signed with the secret before as well.
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_secret_until: Option<Timestamp>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A webhook with its secret, shown this once; without `Debug`, so that it is not logged.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = WebhookWithSecret)]
pub(super) struct SecretView {
    #[serde(flatten)]
    webhook: WebhookView,
    /// What the messages are signed with: `whsec_` and the key in Base64.
    secret: String,
}

/// All webhooks.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = WebhookList)]
pub(super) struct WebhooksView {
    /// Always `list`.
    object: &'static str,
    /// Oldest first.
    data: Vec<WebhookView>,
}

/// One message to one webhook.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = WebhookDelivery)]
pub(super) struct DeliveryView {
    /// The message's `webhook-id`, the same each time it is sent.
    id: String,
    /// Always `webhook.delivery`.
    object: &'static str,
    /// The event.
    event: WebhookEvent,
    /// The job of the event.
    job_id: Option<String>,
    /// Where it is in its life.
    status: DeliveryState,
    /// Number of attempts since it was last requested.
    attempts: u32,
    /// When it is sent next.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// How the last attempt went.
    last_attempt: Option<AttemptView>,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// How a message was sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = WebhookAttempt)]
struct AttemptView {
    /// When it was over.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What the receiver answered.
    status_code: Option<u16>,
    /// Why that was no success.
    error: Option<DeliveryError>,
    /// How long it took.
    duration_ms: u64,
}

/// A page of a webhook's messages.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = WebhookDeliveryList)]
pub(super) struct DeliveriesView {
    /// Always `list`.
    object: &'static str,
    /// Newest first.
    data: Vec<DeliveryView>,
    /// Whether there is a next page.
    has_more: bool,
    /// Pass it as `cursor` to get the next page.
    next_cursor: Option<String>,
}

/// Register a webhook
///
/// From now on every message about a job is sent there, signed as Standard Webhooks 1.0 says. The secret is shown in
/// this answer and never again.
#[utoipa::path(
    post, path = "/webhooks", tag = "webhooks",
    request_body(content = WebhookBody, content_type = "application/json"),
    responses(
        (status = 201, description = "Registered", body = SecretView, headers(("Location" = String, description = "The webhook"))),
        (status = 400, description = "`invalid_request`"),
        (status = 403, description = "`cross_origin`"),
        (status = 409, description = "`too_many_webhooks`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
    )
)]
pub(super) async fn create_webhook(
    _: NoParameters,
    State(state): State<HttpState>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let webhook = state.webhooks.register(&body.0).await?;
    let location = format!("/v1/webhooks/{}", webhook.id);
    let mut response = with_secret(StatusCode::CREATED, webhook);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// List the webhooks
///
/// All of them, oldest first, without their secrets.
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks",
    responses((status = 200, description = "The webhooks", body = WebhooksView))
)]
pub(super) async fn list_webhooks(
    _: NoParameters,
    State(state): State<HttpState>,
) -> Result<Json<WebhooksView>, Problem> {
    let webhooks = state.webhooks.list().await?;
    Ok(Json(WebhooksView {
        object: "list",
        data: webhooks.into_iter().map(WebhookView::new).collect(),
    }))
}

/// Get a webhook
///
/// Without its secret.
#[utoipa::path(
    get, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "`webhook_not_found`"),
    )
)]
pub(super) async fn get_webhook(
    _: NoParameters,
    State(state): State<HttpState>,
    WebhookPath(id): WebhookPath,
) -> Result<Json<WebhookView>, Problem> {
    Ok(Json(WebhookView::new(state.webhooks.get(id).await?)))
}

/// Change a webhook
///
/// What the body leaves out stays as it is. `"enabled": false` stops it until it is enabled again; what happens meanwhile is
/// not sent later.
#[utoipa::path(
    patch, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook")),
    request_body(content = WebhookChangeBody, content_type = "application/json"),
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 400, description = "`invalid_request`"),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`webhook_not_found`"),
        (status = 413, description = "`payload_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
    )
)]
pub(super) async fn change_webhook(
    _: NoParameters,
    State(state): State<HttpState>,
    WebhookPath(id): WebhookPath,
    body: JsonBody,
) -> Result<Json<WebhookView>, Problem> {
    let changed = state.webhooks.change(id, &body.0).await?;
    Ok(Json(WebhookView::new(changed)))
}

/// Delete a webhook
///
/// Nothing is sent there any more, and its deliveries are gone.
#[utoipa::path(
    delete, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`webhook_not_found`"),
    )
)]
pub(super) async fn delete_webhook(
    _: NoParameters,
    State(state): State<HttpState>,
    WebhookPath(id): WebhookPath,
) -> Result<StatusCode, Problem> {
    state.webhooks.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replace a webhook's secret
///
/// The new one is shown in this answer and never again. For 24 hours messages carry two signatures, the second one by
/// the secret before.
#[utoipa::path(
    post, path = "/webhooks/{id}/rotate-secret", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook with its new secret", body = SecretView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`webhook_not_found`"),
    )
)]
pub(super) async fn rotate_secret(
    _: NoParameters,
    State(state): State<HttpState>,
    WebhookPath(id): WebhookPath,
) -> Result<Response, Problem> {
    let webhook = state.webhooks.rotate_secret(id).await?;
    Ok(with_secret(StatusCode::OK, webhook))
}

/// Enable a webhook
///
/// After its receiver answered 410, or a client disabled it. Messages that were waiting then are sent now, unless they are older than 30 days; events
/// since then are not sent.
#[utoipa::path(
    post, path = "/webhooks/{id}/enable", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook")),
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`webhook_not_found`"),
    )
)]
pub(super) async fn enable_webhook(
    _: NoParameters,
    State(state): State<HttpState>,
    WebhookPath(id): WebhookPath,
) -> Result<Json<WebhookView>, Problem> {
    Ok(Json(WebhookView::new(state.webhooks.enable(id).await?)))
}

/// Try a webhook
///
/// Sends a message of the type `webhook.test`. How that went is in the list of deliveries.
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook")),
    responses(
        (status = 202, description = "The delivery, which is on its way", body = DeliveryView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`webhook_not_found`"),
        (status = 409, description = "`webhook_disabled`"),
    )
)]
pub(super) async fn test_webhook(
    _: NoParameters,
    State(state): State<HttpState>,
    WebhookPath(id): WebhookPath,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let delivery = state.webhooks.test(id).await?;
    Ok((StatusCode::ACCEPTED, Json(DeliveryView::new(delivery))))
}

/// List a webhook's deliveries
///
/// Newest first. Those that are over are kept for 30 days.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", tag = "webhooks",
    params(
        ("id" = String, Path, description = "The webhook"),
        ("limit" = Option<u32>, Query, description = "Length of the page", minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", pattern = "^[0-9]{1,18}$"),
    ),
    responses(
        (status = 200, description = "A page", body = DeliveriesView),
        (status = 400, description = "`invalid_request`"),
        (status = 404, description = "`webhook_not_found`"),
    )
)]
pub(super) async fn list_deliveries(
    State(state): State<HttpState>,
    WebhookPath(id): WebhookPath,
    mut parameters: Parameters,
) -> Result<Json<DeliveriesView>, Problem> {
    let limit = parameters.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let cursor = parameters.take_with("cursor", number);
    parameters.finish()?;
    let page = state.webhooks.deliveries(id, cursor, limit).await?;
    Ok(Json(DeliveriesView {
        object: "list",
        data: page.deliveries.into_iter().map(DeliveryView::new).collect(),
        has_more: page.next.is_some(),
        next_cursor: page.next.map(|number| number.to_string()),
    }))
}

/// Send a delivery again
///
/// At once and under the same `webhook-id`, whether it succeeded or not; its attempts are counted from the beginning.
/// One that is waiting anyway is only sent sooner.
#[utoipa::path(
    post, path = "/webhooks/{id}/deliveries/{delivery}/redeliver", tag = "webhooks",
    params(
        ("id" = String, Path, description = "The webhook"),
        ("delivery" = String, Path, description = "The delivery"),
    ),
    responses(
        (status = 202, description = "The delivery, which is on its way", body = DeliveryView),
        (status = 403, description = "`cross_origin`"),
        (status = 404, description = "`webhook_not_found` or `delivery_not_found`"),
        (status = 409, description = "`webhook_disabled`"),
    )
)]
pub(super) async fn redeliver(
    _: NoParameters,
    State(state): State<HttpState>,
    WebhookPath(id): WebhookPath,
    DeliveryPath(message): DeliveryPath,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let delivery = state.webhooks.redeliver(id, &message).await?;
    Ok((StatusCode::ACCEPTED, Json(DeliveryView::new(delivery))))
}

/// Digits only: `parse` would take a sign too.
fn number(text: &str) -> Result<u64, String> {
    let is_number =
        (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| format!("expected 1 to {MAX_DIGITS} digits"))
}

fn with_secret(status: StatusCode, webhook: Webhook) -> Response {
    let secret = webhook.secret.expose().to_owned();
    let webhook = WebhookView::new(webhook);
    let mut response = (status, Json(SecretView { webhook, secret })).into_response();
    let no_store = HeaderValue::from_static("no-store");
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, no_store);
    response
}

impl WebhookView {
    fn new(webhook: Webhook) -> Self {
        Self {
            id: webhook.id.to_string(),
            object: "webhook",
            url: webhook.url,
            description: webhook.description,
            events: webhook.events,
            enabled: webhook.disabled_at.is_none(),
            disabled_at: webhook.disabled_at,
            previous_secret_until: webhook.previous.map(|(_, until)| until),
            created_at: webhook.created_at,
        }
    }
}

impl DeliveryView {
    fn new(delivery: Delivery) -> Self {
        Self {
            id: delivery.message_id,
            object: "webhook.delivery",
            event: delivery.event,
            job_id: delivery.job_id.map(|id| id.to_string()),
            status: delivery.state,
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at,
            last_attempt: delivery.last.map(|(at, sent)| AttemptView {
                at,
                status_code: sent.status,
                error: sent.error,
                duration_ms: sent.duration_ms,
            }),
            created_at: delivery.created_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_up_to_eighteen_digits() {
        assert_eq!(number("7"), Ok(7));
        assert_eq!(number("999999999999999999"), Ok(999_999_999_999_999_999));
        for text in ["", "+7", "-1", "1 ", "x", "1000000000000000000", "１"] {
            assert!(number(text).is_err(), "{text:?}");
        }
    }
}
