//! What the pool does about workers that are gone, leases that are lost, and what both leave behind.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secateur::domain::job::attempt_end::AttemptEnd;
use serde_json::json;
use tempfile::TempDir;

use crate::support::test_app::{TestApp, job_id, publication};

#[tokio::test]
async fn the_job_of_a_killed_worker_goes_on_at_once() {
    let app = TestApp::api().await;
    let id = app.submit("succeed").await;
    let lease = app.claim().await;
    let home = app.stop().await;
    // The lock file of a process that is gone: it is there, and nobody holds its lock.
    fs::create_dir_all(home.path().join("workers")).unwrap();
    File::create(
        home.path()
            .join("workers")
            .join(format!("{}.lock", lease.owner)),
    )
    .unwrap();

    let app = TestApp::at(home).await;
    let job = app.job_with_status(&id, "succeeded").await;
    assert_eq!(
        (&job["attempt"], &job["crash_count"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(job["attempts"][0]["outcome"], "crashed");
    assert_eq!(
        app.events(&id).await,
        [
            "queued",
            "started",
            "retrying",
            "started",
            "phase",
            "succeeded"
        ]
    );
    let home = app.stop().await;
    assert_eq!(
        fs::read_dir(home.path().join("workers")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn the_job_of_a_living_worker_elsewhere_is_left_alone_until_its_lease_ends() {
    let app = TestApp::api().await;
    let held = app.submit("succeed").await;
    let lease = app.claim().await;
    let home = app.stop().await;

    let app = TestApp::at(home).await;
    let next = app.submit("succeed").await;
    app.job_with_status(&next, "succeeded").await;
    assert_eq!(
        app.get(&format!("/v1/jobs/{held}")).await.json()["status"],
        "running"
    );

    app.store()
        .await
        .heartbeat(&lease, Duration::ZERO)
        .await
        .unwrap();
    let job = app.job_with_status(&held, "succeeded").await;
    assert_eq!(job["crash_count"], 1);
    app.stop().await;
}

#[tokio::test]
async fn a_job_that_kills_its_worker_every_time_fails() {
    let app = TestApp::api().await;
    let id = app.submit("succeed").await;
    let crash = async |attempt| {
        let lease = app.claim().await;
        assert_eq!(lease.attempt, attempt);
        app.store()
            .await
            .heartbeat(&lease, Duration::ZERO)
            .await
            .unwrap();
        lease
    };
    for attempt in 1..3 {
        let lease = crash(attempt).await;
        let error =
            secateur::domain::job::failure::JobError::crash(attempt, None, "gone".to_owned());
        app.finish(
            &lease,
            &AttemptEnd::Retry {
                error,
                crashed: true,
                delay: Duration::ZERO,
            },
        )
        .await;
    }
    crash(3).await;
    let app = TestApp::at(app.stop().await).await;
    let job = app.job_with_status(&id, "failed").await;
    assert_eq!(
        (&job["error"]["code"], &job["crash_count"]),
        (&json!("worker_crashed"), &json!(3))
    );
    app.stop().await;
}

#[tokio::test]
async fn a_cancelled_job_of_a_dead_worker_becomes_cancelled() {
    let app = TestApp::api().await;
    let id = app.submit("succeed").await;
    let lease = app.claim().await;
    app.post(&format!("/v1/jobs/{id}/cancel"), &json!(null))
        .await;
    app.store()
        .await
        .heartbeat(&lease, Duration::ZERO)
        .await
        .unwrap();
    let app = TestApp::at(app.stop().await).await;
    app.job_with_status(&id, "cancelled").await;
    app.stop().await;
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_stops_and_leaves_nothing() {
    let app = TestApp::with_worker().await;
    let id = app.submit("hang").await;
    app.job_when(&id, |job| job["progress"]["step"].is_object())
        .await;
    let grandchild = fs::read_to_string(app.scratch(&id).join("grandchild")).unwrap();

    // Somebody else ends the attempt in the holder's name.
    let store = app.store().await;
    let lease =
        secateur::store::Lease::of(&store.lookup_job(job_id(&id)).await.unwrap().unwrap()).unwrap();
    app.finish(&lease, &AttemptEnd::Succeeded(Box::new(publication(1))))
        .await;
    // The next job runs, so the slot has let go of the first one.
    let next = app.submit("succeed").await;
    app.job_with_status(&next, "succeeded").await;
    assert!(
        !fs::read_to_string(format!("/proc/{grandchild}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z"))
    );
    assert_eq!(
        app.get(&format!("/v1/jobs/{id}")).await.json()["status"],
        "succeeded"
    );
    app.stop().await;
}

/// Runs a server on what another one left, until its sweep has got so far.
async fn swept(home: &Arc<TempDir>, is_done: impl Fn(&Path) -> bool) {
    let app = TestApp::at(Arc::clone(home)).await;
    let done = tokio::time::timeout(Duration::from_mins(1), async {
        while !is_done(home.path()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(done.await.is_ok(), "the sweep never gets so far");
    app.stop().await;
}

#[tokio::test]
async fn leftovers_of_finished_jobs_are_removed_and_nothing_else() {
    let app = TestApp::with_worker().await;
    let done = app.submit("succeed").await;
    app.job_with_status(&done, "succeeded").await;
    let failed = app.submit("refuse").await;
    app.job_with_status(&failed, "failed").await;
    let home = app.stop().await;
    let attempt = |id: &str, n: u32| {
        home.path()
            .join(format!("artifacts/jobs/{id}/attempts/{n}/dense"))
    };
    for path in [
        attempt(&failed, 1),
        attempt(&done, 7),
        home.path().join("scratch").join(&failed),
    ] {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("file"), b"x").unwrap();
    }
    fs::create_dir_all(home.path().join("scratch/somebody-elses")).unwrap();
    // What cannot be removed keeps nothing else.
    fs::write(home.path().join("scratch").join(&done), b"no directory").unwrap();

    let left = |path: String| home.path().join(path).try_exists().unwrap();
    swept(&home, |_| {
        // With its folder.
        !left(format!("artifacts/jobs/{failed}"))
            && !left(format!("artifacts/jobs/{done}/attempts/7"))
            && !left(format!("scratch/{failed}"))
    })
    .await;
    assert!(left(format!(
        "artifacts/jobs/{done}/attempts/1/dense/model.safetensors"
    )));
    assert!(left("scratch/somebody-elses".to_owned()));
}

#[tokio::test]
async fn the_files_of_a_job_that_the_database_lost_are_kept_for_a_week() {
    let app = TestApp::with_worker().await;
    let done = app.submit("succeed").await;
    app.job_with_status(&done, "succeeded").await;
    let home = app.stop().await;
    let scratch = home.path().join("scratch").join(&done);
    fs::create_dir_all(&scratch).unwrap();
    let artifact = home.path().join(format!("artifacts/jobs/{done}"));
    let aside = home.path().join("aside.db");
    fs::rename(home.path().join("secateur.db"), &aside).unwrap();

    let is_marked = |_: &Path| {
        let marks = [&artifact, &scratch].map(|directory| directory.join("unknown-since"));
        marks.iter().all(|mark| mark.try_exists().unwrap())
    };
    swept(&home, is_marked).await;
    let file = artifact.join("attempts/1/dense/model.safetensors");
    assert!(file.try_exists().unwrap() && scratch.try_exists().unwrap());
    // As if that had been eight days ago.
    for directory in [&artifact, &scratch] {
        let mark = File::open(directory.join("unknown-since")).unwrap();
        let since = mark.metadata().unwrap().modified().unwrap();
        mark.set_modified(since - Duration::from_hours(8 * 24))
            .unwrap();
    }

    // The right database again: what it names stays, and the grace begins anew.
    let wrong = home.path().join("wrong.db");
    fs::rename(home.path().join("secateur.db"), &wrong).unwrap();
    fs::rename(&aside, home.path().join("secateur.db")).unwrap();
    let mark = artifact.join("unknown-since");
    swept(&home, |_| {
        !scratch.try_exists().unwrap() && !mark.try_exists().unwrap()
    })
    .await;
    assert!(file.try_exists().unwrap());

    fs::rename(home.path().join("secateur.db"), &aside).unwrap();
    fs::rename(&wrong, home.path().join("secateur.db")).unwrap();
    swept(&home, |_| mark.try_exists().unwrap()).await;
    assert!(file.try_exists().unwrap());
    let mark = File::open(mark).unwrap();
    let since = mark.metadata().unwrap().modified().unwrap();
    mark.set_modified(since - Duration::from_hours(8 * 24))
        .unwrap();
    swept(&home, |_| !artifact.try_exists().unwrap()).await;
}
