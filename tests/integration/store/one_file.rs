//! What only a database that is one file can suffer.

use std::path::Path;
use std::sync::Arc;

use reqwest::StatusCode;
use secateur::domain::spec::Guard;
use secateur::domain::spec::JobSpec;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqlSafeStr as _, SqliteConnection};

use secateur::store::{self, DatabaseUrl};
use serde_json::json;

use super::*;
use crate::support::test_app::TestApp;

async fn opened(directory: &Path) -> Arc<dyn Store> {
    let file = directory.join("test.db");
    store::open(&DatabaseUrl::file(&file), Time::Database)
        .await
        .unwrap()
}

/// Past the store.
async fn raw(directory: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(directory.join("test.db"));
    options.connect().await.unwrap()
}

/// The rows that the version with one type of job left: no column says the type, and no word of it is in the spec.
#[tokio::test]
async fn a_database_of_the_version_before_types_of_jobs_is_read_as_it_was_meant() {
    let database = Database::sqlite();
    let options = SqliteConnectOptions::new()
        .filename(database.file())
        .create_if_missing(true);
    let mut old = options.connect().await.unwrap();
    let sql = include_str!("../../../migrations/sqlite/0001_jobs.sql").into_sql_str();
    let first = Migration::new(1, "0001_jobs".into(), MigrationType::Simple, sql, false);
    let mut migrator = Migrator::with_migrations(vec![first]);
    migrator.dangerous_set_table_name("secateur_migrations");
    migrator.run(&mut old).await.unwrap();
    let id = new_job("m", at(0)).id;
    let spec = r#"{"model":{"source":"local","id":"m"},"method":{"type":"wanda"},"sparsity":0.5,"pattern":"2:4",
        "calibration":{"dataset":"c4","n_samples":16,"seq_len":null,"seed":0},
        "evaluation":{"perplexity":[{"dataset":"wikitext2"}],"seq_len":null,"windows":null}}"#;
    let outcome = r#"{"digest":"d1ce","sparsity":{"requested":0.5,"achieved":0.5},"perplexity":[],"file_count":0,"size_bytes":0}"#;
    let insert_job = "insert into jobs (id, metadata, spec, model_id, method, state, attempt, failed_attempts, crash_count, \
        max_attempts, run_after, outcome, created_at, updated_at, version) \
        values (?1, '{}', ?2, 'm', 'wanda', 'succeeded', 1, 0, 0, 3, 0, ?3, 0, 0, 1)";
    let query = sqlx::query(insert_job).bind(id.to_string());
    query
        .bind(spec)
        .bind(outcome)
        .execute(&mut old)
        .await
        .unwrap();
    let insert_publication =
        "insert into publications (job_id, attempt, manifest, files) values (?1, 1, ?2, '[]')";
    let manifest = include_str!("../support/stub/manifest.json");
    let query = sqlx::query(insert_publication).bind(id.to_string());
    query.bind(manifest).execute(&mut old).await.unwrap();
    old.close().await.unwrap();

    let store = TestStore::open(database).await;
    let found = job(&store, id).await;
    let Some(JobSpec::Prune(spec)) = found.spec.known() else {
        panic!("{found:?}");
    };
    assert_eq!(spec.pattern.to_string(), "2:4");
    assert_eq!(
        (&*spec.evaluation.tasks, spec.evaluation.guard),
        (&[][..], Guard::default())
    );
    let outcome = found.outcome.unwrap();
    assert_eq!(
        (outcome.digest.as_deref(), outcome.warnings.len()),
        (Some("d1ce"), 0)
    );
    let report = store.lookup_publication(id).await.unwrap().unwrap().report;
    assert_eq!(report, publication(1).report);
    let filter = JobFilter {
        types: vec![JobType::Prune],
        ..JobFilter::default()
    };
    assert_eq!(store.list_jobs(&filter, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_database_file_that_is_gone_takes_nothing_and_is_not_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test.db");
    let store = opened(directory.path()).await;
    store.ping().await.unwrap();
    std::fs::rename(&file, directory.path().join("aside.db")).unwrap();
    for is_replaced in [false, true] {
        if is_replaced {
            std::fs::copy(directory.path().join("aside.db"), &file).unwrap();
        }
        let refused = [
            store.ping().await,
            store.insert_job(&new_job("m", at(0))).await.map(drop),
        ];
        for result in refused {
            assert!(result.unwrap_err().is_transient());
        }
        assert_eq!(file.try_exists().unwrap(), is_replaced);
    }
    std::fs::rename(directory.path().join("aside.db"), &file).unwrap();
    store.ping().await.unwrap();
    store.insert_job(&new_job("m", at(1))).await.unwrap();
}

#[tokio::test]
async fn while_nobody_can_write_reads_are_answered_and_the_store_is_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path()).await;
    let job = new_job("m", at(0));
    let job = store.insert_job(&job).await.unwrap();
    let mut other = raw(directory.path()).await;
    let writing = other.begin_with("begin immediate").await.unwrap();

    let jobs: Vec<_> = (1..9).map(|seconds| new_job("m", at(seconds))).collect();
    let writes = futures::future::join_all(jobs.iter().map(|job| store.insert_job(job)));
    tokio::pin!(writes);
    let read = async {
        assert!(store.ping().await.is_err());
        store.list_jobs(&JobFilter::default(), None, 10).await
    };
    // The writers are first to ask for a connection.
    let listed = tokio::select! {
        biased;
        done = &mut writes => panic!("written past another writer: {done:?}"),
        listed = read => listed.unwrap(),
    };
    assert_eq!(listed, [job]);
    writing.rollback().await.unwrap();
    for written in writes.await {
        written.unwrap();
    }
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_whose_database_is_gone_says_so_and_accepts_no_job() {
    let app = TestApp::api().await;
    std::fs::remove_file(app.home().join("secateur.db")).unwrap();
    let ready = app.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        ready.json()["checks"][0],
        json!({"name": "database", "ok": false})
    );
    let body = json!({"model": {"source": "local", "id": "m"}, "sparsity": 0.5});
    let refused = app.post("/v1/jobs", &body).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json()["code"], "unavailable");
}
