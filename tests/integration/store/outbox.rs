//! Webhooks, and what is to be sent to them.

use secateur::domain::webhook::{
    Delivery, DeliveryError, DeliveryState, Secret, Sent, Webhook, WebhookEvent, WebhookId,
};
use secateur::store::{Asked, Dispatch, Followup, NewWebhook};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

/// How long a message belongs to whoever took it.
const HOLD: Duration = Duration::from_secs(30);

/// More than any test has under way at once.
const MANY: u32 = 100;

const TAKEN: Sent = Sent {
    status: Some(204),
    error: None,
    duration_ms: 12,
};

const REFUSED: Sent = Sent {
    status: Some(500),
    error: Some(DeliveryError::Status),
    duration_ms: 7,
};

async fn register(store: &TestStore, number: u128, events: &[WebhookEvent]) -> Webhook {
    let webhook = NewWebhook {
        id: WebhookId::new(Uuid::from_u128(number)),
        url: format!("https://example.com/{number}"),
        description: Some("ours".to_owned()),
        events: events.to_vec(),
        secret: Secret::new(format!("whsec_{number}")),
    };
    store.insert_webhook(&webhook).await.unwrap().unwrap()
}

async fn deliveries(store: &TestStore, webhook: &Webhook) -> Vec<Delivery> {
    let mut all = store.list_deliveries(webhook.id, None, 100).await.unwrap();
    all.reverse();
    all
}

/// What was written for it: the events and the states of the jobs that they tell.
async fn told(store: &TestStore, webhook: &Webhook) -> Vec<&'static str> {
    let all = deliveries(store, webhook).await;
    all.iter().map(|delivery| delivery.event.as_str()).collect()
}

async fn take(store: &TestStore, seconds: i64) -> Option<Dispatch> {
    store.at(seconds).claim_delivery(HOLD, MANY).await.unwrap()
}

pub(super) async fn a_webhook_comes_back_as_it_was_registered(store: &TestStore) {
    let second = register(store.at(5), 2, &WebhookEvent::OF_JOBS).await;
    let first = register(store.at(6), 1, &[WebhookEvent::Failed]).await;
    assert_eq!((second.created_at, second.disabled_at), (at(5), None));
    assert_eq!(first.events, [WebhookEvent::Failed]);
    assert_eq!(
        store.list_webhooks().await.unwrap(),
        [first.clone(), second.clone()]
    );
    assert_eq!(
        store.lookup_webhook(first.id).await.unwrap(),
        Some(first.clone())
    );

    let secret = Secret::new("whsec_new".to_owned());
    let overlap = Duration::from_mins(1);
    let replaced = store.at(7).replace_secret(first.id, &secret, overlap).await;
    let replaced = replaced.unwrap().unwrap();
    assert_eq!(replaced.secret, secret);
    assert_eq!(replaced.previous, Some((first.secret, at(67))));
    assert_eq!(
        store.lookup_webhook(first.id).await.unwrap(),
        Some(replaced)
    );

    assert!(store.delete_webhook(first.id).await.unwrap());
    assert!(!store.delete_webhook(first.id).await.unwrap());
    assert_eq!(store.list_webhooks().await.unwrap(), [second]);
    for gone in [
        store.lookup_webhook(first.id).await.unwrap(),
        store.enable_webhook(first.id).await.unwrap(),
        store
            .replace_secret(first.id, &secret, overlap)
            .await
            .unwrap(),
    ] {
        assert_eq!(gone, None);
    }
}

pub(super) async fn what_is_told_is_written_with_what_happened(store: &TestStore) {
    let all = register(store, 1, &WebhookEvent::OF_JOBS).await;
    let ends = register(store, 2, &[WebhookEvent::Succeeded]).await;
    let id = insert(store, 0).await;
    let lease = claim(store, "a", 1).await.unwrap();
    store
        .at(2)
        .report(&lease, &Report::Phase(Phase::Pruning, Overall::default()))
        .await
        .unwrap();
    finish_at(store, &lease, &retry(1, false, 0), 3).await;
    // What is not written is not told.
    assert!(!finish_at(store, &lease, &succeeded(1), 4).await);
    let lease = claim(store, "a", 5).await.unwrap();
    finish_at(store, &lease, &succeeded(2), 6).await;
    let cancelled = insert(store, 7).await;
    cancel(store, cancelled, 8).await;

    let expected = [
        "job.queued",
        "job.running",
        "job.queued",
        "job.running",
        "job.succeeded",
        "job.queued",
        "job.cancelled",
    ];
    assert_eq!(told(store, &all).await, expected);
    assert_eq!(told(store, &ends).await, ["job.succeeded"]);
    // A lower version happened earlier, and the number leads to the entry in the log.
    let events = store.list_events(id, 0, 100).await.unwrap();
    let mut last = 0;
    for _ in 0..5 {
        let dispatch = take(store, 10).await.unwrap();
        let body: Value = serde_json::from_str(&dispatch.payload).unwrap();
        let data = &body["data"];
        assert_eq!(data["job_id"], id.to_string());
        let version = data["version"].as_u64().unwrap();
        assert!(version > last, "{body}");
        last = version;
        let seq = data["seq"].as_u64().unwrap();
        let event = events.iter().find(|event| event.seq == seq).unwrap();
        assert_eq!(body["timestamp"], json!(event.at));
        assert_eq!(
            body["type"],
            format!("job.{}", data["status"].as_str().unwrap())
        );
        if dispatch.webhook_id == all.id && data["status"] == "succeeded" {
            assert_eq!(data["version"], job(store, id).await.version);
        }
        store
            .settle_delivery(&dispatch, &TAKEN, Followup::Succeeded)
            .await
            .unwrap();
    }
}

pub(super) async fn a_message_is_sent_by_one_at_a_time(store: &TestStore) {
    let webhook = register(store, 1, &WebhookEvent::OF_JOBS).await;
    insert(store, 0).await;
    let first = take(store, 0).await.unwrap();
    assert_eq!((first.attempts, first.webhook_id), (1, webhook.id));
    assert_eq!(
        (&first.url, &first.secrets),
        (&webhook.url, &vec![webhook.secret.clone()])
    );
    assert_eq!(take(store, 29).await, None);
    // Whoever had it is not heard of: it is sent again, under its id.
    let second = take(store, 30).await.unwrap();
    assert_eq!(
        (&second.message_id, &second.payload),
        (&first.message_id, &first.payload)
    );
    let late = store
        .settle_delivery(&first, &TAKEN, Followup::Succeeded)
        .await;
    assert!(!late.unwrap());
    let late = store.settle_delivery(&first, &REFUSED, Followup::Disable);
    assert!(!late.await.unwrap());
    let untouched = store.lookup_webhook(webhook.id).await.unwrap();
    assert_eq!(untouched.as_ref(), Some(&webhook));
    assert_eq!(
        deliveries(store, &webhook).await[0].state,
        DeliveryState::Pending
    );

    let again = Followup::Retry(Duration::from_secs(5));
    assert!(
        store
            .settle_delivery(&second, &REFUSED, again)
            .await
            .unwrap()
    );
    assert!(
        !store
            .settle_delivery(&second, &TAKEN, Followup::Succeeded)
            .await
            .unwrap()
    );
    let waiting = deliveries(store, &webhook).await.remove(0);
    assert_eq!(
        (waiting.attempts, waiting.next_attempt_at),
        (2, Some(at(35)))
    );
    assert_eq!(waiting.last, Some((at(30), REFUSED)));
    assert_eq!(store.count_pending_deliveries().await.unwrap(), 1);
    assert_eq!(take(store, 34).await, None);
    let third = take(store, 35).await.unwrap();
    assert!(
        store
            .settle_delivery(&third, &TAKEN, Followup::Succeeded)
            .await
            .unwrap()
    );
    let done = deliveries(store, &webhook).await.remove(0);
    assert_eq!(
        (done.state, done.next_attempt_at),
        (DeliveryState::Succeeded, None)
    );
    assert_eq!(done.last, Some((at(35), TAKEN)));
    assert_eq!(take(store, 1_000_000).await, None);
    assert_eq!(store.count_pending_deliveries().await.unwrap(), 0);
}

pub(super) async fn however_many_send_no_message_is_taken_twice(store: &TestStore) {
    register(store, 1, &[WebhookEvent::Queued]).await;
    for seconds in 0..40 {
        insert(store, seconds).await;
    }
    store.at(50);
    let take_all = async || {
        let mut taken = Vec::new();
        while let Some(dispatch) = store.claim_delivery(HOLD, MANY).await.unwrap() {
            taken.push(dispatch.message_id);
        }
        taken
    };
    let taken = futures::future::join_all((0..8).map(|_| take_all())).await;
    let mut taken = taken.concat();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 40);
}

pub(super) async fn a_slow_webhook_does_not_keep_the_others_waiting(store: &TestStore) {
    let slow = register(store, 1, &[WebhookEvent::Queued]).await;
    for seconds in 0..3 {
        insert(store, seconds).await;
    }
    let quick = register(store, 2, &[WebhookEvent::Queued]).await;
    insert(store, 3).await;
    let mut taken = Vec::new();
    while let Some(dispatch) = store.at(4).claim_delivery(HOLD, 2).await.unwrap() {
        taken.push(dispatch.webhook_id);
    }
    assert_eq!(taken, [slow.id, quick.id, slow.id]);
    assert_eq!(deliveries(store, &slow).await.len(), 4);
}

pub(super) async fn webhooks_that_never_answer_do_not_keep_another_one_waiting(store: &TestStore) {
    let mut dead = Vec::new();
    for number in 1..=3 {
        dead.push(register(store, number, &[WebhookEvent::Queued]).await);
    }
    for seconds in 0..20 {
        insert(store, seconds).await;
    }
    let take = async |seconds| store.at(seconds).claim_delivery(HOLD, 2).await.unwrap();
    let mut held = Vec::new();
    for webhook in &dead {
        held.push(take(20).await.unwrap());
        assert_eq!(held.last().unwrap().webhook_id, webhook.id);
    }
    // Everything older is to the others, and the next one is not.
    let healthy = register(store, 4, &[WebhookEvent::Queued]).await;
    insert(store, 21).await;
    let mut told = take(22).await.unwrap();
    assert_eq!(told.webhook_id, healthy.id);
    for webhook in &dead {
        assert_eq!(take(23).await.unwrap().webhook_id, webhook.id);
    }
    // By now they have as much under way as they may.
    for seconds in 24..29 {
        store
            .settle_delivery(&told, &TAKEN, Followup::Succeeded)
            .await
            .unwrap();
        assert_eq!(take(seconds).await, None);
        insert(store, seconds).await;
        told = take(seconds).await.unwrap();
        assert_eq!(told.webhook_id, healthy.id);
    }
    // One that comes free goes on with the oldest that it was not sent yet.
    let again = Followup::Retry(Duration::from_hours(1));
    store
        .settle_delivery(&held[1], &REFUSED, again)
        .await
        .unwrap();
    let next = take(29).await.unwrap();
    let waiting = deliveries(store, &dead[1]).await;
    assert_eq!(
        (next.webhook_id, &next.message_id),
        (dead[1].id, &waiting[2].message_id)
    );
}

pub(super) async fn a_webhook_that_cannot_be_read_keeps_no_other_waiting(store: &TestStore) {
    let unreadable = register(store, 1, &[WebhookEvent::Queued]).await;
    insert(store, 0).await;
    let statement = "update webhooks set events = '[\"job.of_a_newer_version\"]'";
    assert_eq!(store.database.execute(statement).await.unwrap(), 1);
    let readable = register(store, 2, &[WebhookEvent::Queued]).await;
    insert(store, 1).await;
    assert_eq!(take(store, 2).await.unwrap().webhook_id, unreadable.id);
    assert_eq!(take(store, 2).await.unwrap().webhook_id, readable.id);
    assert_eq!(take(store, 2).await, None);
}

pub(super) async fn a_disabled_webhook_is_told_nothing(store: &TestStore) {
    let webhook = register(store, 1, &WebhookEvent::OF_JOBS).await;
    insert(store, 0).await;
    insert(store, 1).await;
    let gone = take(store, 2).await.unwrap();
    let settled = store
        .settle_delivery(&gone, &REFUSED, Followup::Disable)
        .await;
    assert!(settled.unwrap());
    let disabled = store.lookup_webhook(webhook.id).await.unwrap().unwrap();
    assert_eq!(disabled.disabled_at, Some(at(2)));
    assert_eq!(take(store, 3).await, None);
    insert(store, 4).await;
    assert_eq!(told(store, &webhook).await, ["job.queued"; 2]);
    let test = store.insert_test(webhook.id, "msg_test").await.unwrap();
    assert_eq!(test, Asked::Disabled);
    let again = store.redeliver(webhook.id, &gone.message_id).await;
    assert_eq!(again.unwrap(), Asked::Disabled);

    store.enable_webhook(webhook.id).await.unwrap().unwrap();
    let waited = take(store, 5).await.unwrap();
    assert_ne!(waited.message_id, gone.message_id);
    assert_eq!(take(store, 5).await, None);
}

pub(super) async fn what_waits_for_a_disabled_webhook_is_not_counted_and_ends(store: &TestStore) {
    let gone = register(store, 1, &[WebhookEvent::Queued]).await;
    let other = register(store, 2, &[WebhookEvent::Queued]).await;
    for seconds in 0..3 {
        insert(store, seconds).await;
    }
    assert_eq!(store.count_pending_deliveries().await.unwrap(), 6);
    let dispatch = take(store, 3).await.unwrap();
    assert_eq!(dispatch.webhook_id, gone.id);
    store
        .settle_delivery(&dispatch, &REFUSED, Followup::Disable)
        .await
        .unwrap();
    assert_eq!(store.count_pending_deliveries().await.unwrap(), 3);

    let age = Duration::from_secs(10);
    let waiting = deliveries(store, &gone).await.remove(2);
    assert_eq!(waiting.state, DeliveryState::Pending);
    assert_eq!(store.at(12).forget_deliveries(age).await.unwrap(), 2);
    assert_eq!(deliveries(store, &gone).await, [waiting]);
    assert_eq!(store.at(13).forget_deliveries(age).await.unwrap(), 1);
    store.enable_webhook(gone.id).await.unwrap().unwrap();
    // Of one that is enabled they are kept until they are sent.
    assert_eq!(store.at(14).forget_deliveries(age).await.unwrap(), 0);
    for _ in 0..3 {
        assert_eq!(take(store, 14).await.unwrap().webhook_id, other.id);
    }
    assert_eq!(take(store, 14).await, None);
}

pub(super) async fn a_message_that_is_over_can_be_sent_again(store: &TestStore) {
    let webhook = register(store, 1, &[WebhookEvent::Failed]).await;
    let Asked::Done(test) = store.insert_test(webhook.id, "msg_test").await.unwrap() else {
        panic!("the webhook is enabled");
    };
    assert_eq!((test.event, test.job_id), (WebhookEvent::Test, None));
    let first = take(store, 0).await.unwrap();
    assert!(
        store
            .settle_delivery(&first, &REFUSED, Followup::Exhausted)
            .await
            .unwrap()
    );
    assert_eq!(
        deliveries(store, &webhook).await[0].state,
        DeliveryState::Exhausted
    );

    let again = store.at(9).redeliver(webhook.id, "msg_test").await.unwrap();
    let Asked::Done(Some(delivery)) = again else {
        panic!("{again:?}");
    };
    assert_eq!(
        (delivery.state, delivery.attempts),
        (DeliveryState::Pending, 0)
    );
    assert_eq!(delivery.next_attempt_at, Some(at(9)));
    let second = take(store, 9).await.unwrap();
    assert_eq!(
        (second.attempts, &second.message_id),
        (1, &first.message_id)
    );
    // The first sender cannot speak for the second one.
    let late = store
        .settle_delivery(&first, &TAKEN, Followup::Succeeded)
        .await;
    assert!(!late.unwrap());

    assert_eq!(
        store.redeliver(webhook.id, "msg_x").await.unwrap(),
        Asked::Done(None)
    );
    let unknown = WebhookId::new(Uuid::from_u128(9));
    assert_eq!(
        store.redeliver(unknown, "msg_test").await.unwrap(),
        Asked::Unknown
    );
    assert_eq!(
        store.insert_test(unknown, "msg_x").await.unwrap(),
        Asked::Unknown
    );
}

pub(super) async fn both_secrets_sign_until_the_old_one_is_over(store: &TestStore) {
    let webhook = register(store, 1, &[WebhookEvent::Queued]).await;
    let secret = Secret::new("whsec_new".to_owned());
    let overlap = Duration::from_mins(1);
    store
        .at(0)
        .replace_secret(webhook.id, &secret, overlap)
        .await
        .unwrap();
    insert(store, 1).await;
    assert_eq!(
        take(store, 1).await.unwrap().secrets,
        [secret.clone(), webhook.secret]
    );
    assert_eq!(take(store, 60).await.unwrap().secrets, [secret]);
}

pub(super) async fn what_is_over_is_forgotten_and_what_is_not_is_kept(store: &TestStore) {
    let webhook = register(store, 1, &[WebhookEvent::Queued]).await;
    insert(store, 0).await;
    insert(store, 1).await;
    let dispatch = take(store, 2).await.unwrap();
    store
        .settle_delivery(&dispatch, &TAKEN, Followup::Succeeded)
        .await
        .unwrap();
    let age = Duration::from_secs(10);
    assert_eq!(store.at(10).forget_deliveries(age).await.unwrap(), 0);
    assert_eq!(store.at(11).forget_deliveries(age).await.unwrap(), 1);
    assert_eq!(told(store, &webhook).await, ["job.queued"]);
    // As a process might leave it that told of a job while another one deleted the webhook.
    let statement = "delete from webhooks";
    assert_eq!(store.database.execute(statement).await.unwrap(), 1);
    assert_eq!(take(store, 11).await, None);
    assert_eq!(store.forget_deliveries(age).await.unwrap(), 1);
}
