//! Looks at models of the hub, as a submission takes them.

use std::time::Duration;

use axum::http::StatusCode;
use futures::future::join_all;
use secateur::domain::ErrorCode;
use secateur::models::{ModelHub, NoRemoteModel, RemoteModel};
use secateur::pipeline::hub::HubLook;
use tempfile::TempDir;

use crate::hub::models::{WEIGHTS, options};
use crate::hub::to_artifact::hub_with_bundled_model;
use crate::support::servers::mock_hub::{COMMIT, Fault, MODEL, MockHub};

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";

/// Far more than an answer takes.
const LIMIT: Duration = Duration::from_secs(5);

fn look(hub: &MockHub, cache: &TempDir, limit: Duration) -> HubLook {
    HubLook::new(options(hub, cache), limit)
}

fn unknown(answer: Result<RemoteModel, NoRemoteModel>) -> String {
    match answer {
        Err(NoRemoteModel::Unknown(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_serves_all_who_ask_the_same_for_a_while() {
    let (hub, cache) = (hub_with_bundled_model().await, TempDir::new().unwrap());
    let look = look(&hub, &cache, LIMIT);
    // A model and its baseline.
    let both = join_all([(), ()].map(|()| look.look(MODEL, "main", true))).await;
    assert_eq!(both[0].as_ref().unwrap().commit, COMMIT);
    assert_eq!(both[0], both[1]);
    assert_eq!(hub.count("GET revision/main"), 1);
    let asked = hub.requests();
    assert_eq!(look.look(MODEL, "main", true).await, both[0]);
    assert_eq!(hub.requests(), asked);
    let other = look.look(MODEL, COMMIT, true).await;
    assert_eq!(other, both[0]);
    assert!(hub.requests() > asked, "another revision is asked for");
}

#[tokio::test]
async fn only_four_models_are_asked_for_at_once() {
    let (hub, cache) = (hub_with_bundled_model().await, TempDir::new().unwrap());
    hub.keep_waiting(true);
    let look = look(&hub, &cache, Duration::from_secs(2));
    let questions = ["main", "feature/x", COMMIT]
        .iter()
        .flat_map(|revision| [true, false].map(|needs_tokens| (*revision, needs_tokens)));
    let looks = questions.map(|(revision, needs)| look.look(MODEL, revision, needs));
    for answer in join_all(looks).await {
        unknown(answer);
    }
    assert_eq!(hub.waiting(), 4);
}

#[tokio::test]
async fn one_broken_repository_is_no_hub_that_is_away() {
    let (hub, cache) = (hub_with_bundled_model().await, TempDir::new().unwrap());
    let look = look(&hub, &cache, LIMIT);
    hub.fail_always(CONFIG, Fault::Cut);
    let reason = unknown(look.look(MODEL, "main", true).await);
    assert!(reason.contains(MODEL), "{reason}");
    hub.fail_first(CONFIG, &[]);
    look.look(MODEL, COMMIT, true).await.unwrap();

    hub.answer_revisions(Some(StatusCode::BAD_GATEWAY));
    let reason = unknown(look.look(MODEL, "feature/x", true).await);
    assert!(reason.contains("502"), "{reason}");
    hub.answer_revisions(None);
    look.look(MODEL, "main", false).await.unwrap();
}

#[tokio::test]
async fn a_hub_that_is_away_is_told_without_the_name_of_a_model() {
    let (hub, cache) = (hub_with_bundled_model().await, TempDir::new().unwrap());
    let mut away = options(&hub, &cache);
    away.endpoint = Some("http://127.0.0.1:9".to_owned());
    let look = HubLook::new(away, LIMIT);
    let first = unknown(look.look("acme/secret", "main", true).await);
    let later = unknown(look.look(MODEL, "main", true).await);
    assert_eq!(later, first, "it is not asked again");
    assert!(!later.contains("secret"), "{later}");
}

#[tokio::test]
async fn a_configuration_or_an_index_of_any_length_is_refused_unread() {
    let (hub, cache) = (hub_with_bundled_model().await, TempDir::new().unwrap());
    let look = look(&hub, &cache, LIMIT);
    let config = std::fs::read("assets/demo/config.json").unwrap();
    // Blanks are JSON, so that nothing but the length is wrong.
    let padded = [&*config, &vec![b' '; 1 << 20]].concat();
    hub.add(CONFIG, &padded);
    let refused = async |revision: &str| match look.look(MODEL, revision, true).await {
        Err(NoRemoteModel::Refused(code, reason)) => (code, reason),
        other => panic!("{other:?}"),
    };
    let (code, reason) = refused("main").await;
    assert_eq!(code, ErrorCode::MalformedCheckpoint);
    assert!(reason.contains("more than 1048576 bytes"), "{reason}");
    assert_eq!(hub.downloads(CONFIG), 0);

    hub.add(CONFIG, &config);
    hub.remove(WEIGHTS);
    hub.add(INDEX, br#"{"weight_map": {}}"#);
    hub.list_length(INDEX, (64 << 20) + 1);
    let (code, reason) = refused(COMMIT).await;
    assert_eq!(code, ErrorCode::MalformedCheckpoint);
    assert!(reason.contains(INDEX), "{reason}");
    assert_eq!(hub.downloads(INDEX), 0);
}
