//! What happens between the start of a program and its first statement: the schema, and the name of the database.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Output};
use std::sync::Arc;

use crate::support::database::{Database, block_on};
use crate::support::processes::{Site, Starting, until};
use crate::support::test_app::TestApp;

on_both_databases!(blocking:
    five_servers_that_start_at_once_on_an_empty_database_all_come_up,
    a_program_that_is_older_than_the_database_refuses_it,
    a_process_with_other_artifacts_than_those_of_its_database_does_not_start,
);

/// What must not be seen anywhere.
const PASSWORD: &str = "hunter2";

fn migrate(home: &std::path::Path, url: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_secateur"))
        .arg("migrate")
        .arg("--home")
        .arg(home)
        .env("SECATEUR_DATABASE_URL", url)
        .output()
        .unwrap()
}

fn five_servers_that_start_at_once_on_an_empty_database_all_come_up(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), database);
    let starting = [(); 5].map(|()| site.starting(&[]));
    for server in starting.map(Starting::listening) {
        until("a server that is ready", || {
            (server.get("/readyz")["ready"] == true).then_some(())
        });
    }
}

fn a_program_that_is_older_than_the_database_refuses_it(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let done = migrate(dir.path(), &database.url());
    assert!(done.status.success(), "{done:?}");
    let newer = "update secateur_migrations set version = version + 9000";
    assert!(block_on(database.execute(newer)).unwrap() > 0);
    let refused = migrate(dir.path(), &database.url());
    assert_eq!(refused.status.code(), Some(1));
    let line = String::from_utf8(refused.stderr).unwrap();
    assert!(
        line.contains("the database has schema version 900"),
        "{line}"
    );
    assert!(line.contains("this program needs version"), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
}

fn a_process_with_other_artifacts_than_those_of_its_database_does_not_start(database: &Database) {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(dir.path(), database);
    drop(site.api());
    let other = site.clone().with("SECATEUR_HOME", dir.path().join("other"));
    assert!(other.starting(&[]).try_listening().is_none());
    assert!(other.try_worker().is_none());
    // Where the artifacts were moved with their id, or are the same by another way.
    let [first, second] =
        ["home", "other"].map(|home| dir.path().join(home).join("artifacts/store-id"));
    fs::copy(first, second).unwrap();
    drop(other.api());
    drop(site.api());
}

#[test]
fn an_empty_variable_is_not_set_and_a_boolean_may_be_a_digit() {
    let dir = tempfile::tempdir().unwrap();
    let migrate = |path_style: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secateur"));
        command.arg("migrate").arg("--home").arg(dir.path());
        for name in [
            "SECATEUR_DATABASE_URL",
            "SECATEUR_ARTIFACTS",
            "SECATEUR_S3_ENDPOINT",
            "SECATEUR_S3_REDIRECT",
            "SECATEUR_MODELS_DIR",
        ] {
            command.env(name, "");
        }
        command.env("SECATEUR_S3_PATH_STYLE", path_style);
        command.output().unwrap()
    };
    for path_style in ["1", "0", "on", "true", ""] {
        let output = migrate(path_style);
        assert!(output.status.success(), "{path_style:?}: {output:?}");
    }
    assert!(!migrate("perhaps").status.success());
}

#[test]
fn other_users_of_the_machine_cannot_read_what_a_server_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let mode = |name: &str| home.join(name).metadata().unwrap().mode() & 0o777;
    let migrated = || migrate(&home, "");
    assert!(migrated().status.success());
    assert_eq!((mode(""), mode("secateur.db")), (0o700, 0o600));
    // As the version before created it.
    let public = Permissions::from_mode(0o644);
    fs::set_permissions(home.join("secateur.db"), public).unwrap();
    assert!(migrated().status.success());
    assert_eq!(mode("secateur.db"), 0o600);
}

#[tokio::test]
async fn the_directories_of_a_server_are_its_own() {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let scores = home.path().join("scores");
    fs::create_dir(&scores).unwrap();
    fs::set_permissions(scores, Permissions::from_mode(0o755)).unwrap();
    let app = TestApp::at(home).await;
    for name in ["artifacts", "scores", "scratch", "workers"] {
        let mode = app.home().join(name).metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

#[test]
fn a_program_does_not_start_on_what_cannot_work() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (variable, value, words) in [
        (
            "SECATEUR_DEVICES",
            "cpu,cuda:0",
            "device cuda:0 cannot be used: this program was built without",
        ),
        (
            "SECATEUR_MODELS_DIR",
            "/nonexistent",
            "--models-dir /nonexistent cannot be read",
        ),
        (
            "SECATEUR_DATA_DIR",
            file.to_str().unwrap(),
            "file cannot be read: ",
        ),
    ] {
        for command in ["serve", "worker"] {
            let output = Command::new(env!("CARGO_BIN_EXE_secateur"))
                .arg(command)
                .env("SECATEUR_HOME", dir.path().join("home"))
                .env("SECATEUR_LISTEN", "0")
                .env(variable, value)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1));
            let line = String::from_utf8(output.stderr).unwrap();
            assert!(line.contains(words), "{command}: {line}");
        }
    }
    assert!(!dir.path().join("home").try_exists().unwrap());
}

#[test]
fn no_message_repeats_the_password_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    for (url, words) in [
        // Nobody listens there.
        (
            "postgres://me:hunter2@127.0.0.1:1/jobs",
            "postgres://127.0.0.1:1/jobs",
        ),
        (
            "postgres://me:hunter2@host:port/jobs",
            "expected postgres://",
        ),
        (
            "mysql://me:hunter2@host/jobs",
            "expected sqlite://PATH or postgres://",
        ),
    ] {
        let output = migrate(dir.path(), url);
        assert_eq!(output.status.code(), Some(1));
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.contains(words), "{line}");
        assert!(!line.contains(PASSWORD), "{line}");
    }
    for command in ["serve", "worker", "migrate"] {
        let help = Command::new(env!("CARGO_BIN_EXE_secateur"))
            .args([command, "--help"])
            .env(
                "SECATEUR_DATABASE_URL",
                format!("postgres://me:{PASSWORD}@db/jobs"),
            )
            .output()
            .unwrap();
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(text.contains("SECATEUR_DATABASE_URL"), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
}
