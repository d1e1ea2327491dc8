//! Changing a webhook, and what it is told of deletions.

use super::*;

#[tokio::test]
async fn a_webhook_can_be_changed_and_stopped() {
    let (first, second) = (Receiver::start(&[]), Receiver::start(&[]));
    let app = api_at(&clock_at_now()).await;
    let webhook = register(&app, &first, Some(&["job.failed"])).await;
    let change = async |body: Value| {
        let request = app.request(Method::PATCH, &path(&webhook, ""));
        app.send(request.json(&body)).await
    };
    let wrong = json!({"url": "ftp://example.com", "events": [], "secret": "mine"});
    assert_eq!(change(wrong).await.status, StatusCode::BAD_REQUEST);
    let body = json!({"url": second.url(), "events": ["job.cancelled", "job.deleted"]});
    let changed = change(body).await.json();
    assert_eq!(changed["url"], second.url());
    assert_eq!(changed["description"], webhook["description"]);
    let id = app.submit("m").await;
    app.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(second.when(1).await[0].json()["type"], "job.cancelled");

    let stopped = change(json!({"enabled": false})).await.json();
    assert_eq!(stopped["enabled"], false);
    let other = app.submit("m").await;
    app.post(&format!("/v1/jobs/{other}/cancel"), &json!({}))
        .await;
    let enabled = change(json!({"enabled": true})).await.json();
    assert_eq!(enabled["disabled_at"], Value::Null);
    let delete = app.request(Method::DELETE, &format!("/v1/jobs/{id}"));
    assert_eq!(app.send(delete).await.status, StatusCode::NO_CONTENT);
    let told = second.when(2).await.remove(1).json();
    assert_eq!(told["type"], "job.deleted");
    assert_eq!(told["data"]["job_id"], id);
    assert!(first.received().is_empty());
}
