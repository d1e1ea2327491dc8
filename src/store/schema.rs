//! The schema of a database, and whether it is the one that this program knows.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::StoreError;

/// Where the database keeps which migrations were applied.
const TABLE: &str = "secateur_migrations";

/// The newest migration that was applied.
pub(super) const APPLIED_VERSION: &str =
    "select max(version) as version from secateur_migrations where success";

/// The migrations of a database in their order. Both databases have the same.
macro_rules! migrations {
    ($database:literal) => {
        $crate::store::schema::migrations!(
            $database,
            "0001_jobs",
            "0002_job_types",
            "0003_service",
            "0004_clients",
            "0005_workers",
            "0006_traces",
            "0007_outbox",
            "0008_replies",
            "0009_spec_versions",
            "0010_store_id",
            "0011_needs",
            "0012_commits",
            "0013_scale",
            "0014_retention",
            "0015_histories",
            "0016_estimates",
            "0017_filters",
            "0018_duplicates",
            "0019_exporter",
            "0020_freed",
            "0021_storage"
        )
    };
    ($database:literal, $($name:literal),+) => {
        [$((
            $name,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/", $database, "/", $name, ".sql")),
        )),+]
    };
}
pub(super) use migrations;

/// Of migrations as names and statements.
pub(super) fn migrator<const N: usize>(migrations: [(&'static str, &'static str); N]) -> Migrator {
    let migrations = (1..).zip(migrations).map(|(version, (name, sql))| {
        let sql = sql.into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

/// The version of this program.
fn known_version(migrator: &Migrator) -> i64 {
    let versions = migrator.iter().map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// What it means that the migrations could not be applied.
pub(super) fn not_migrated(migrator: &Migrator, error: MigrateError) -> StoreError {
    let known = known_version(migrator);
    match error {
        MigrateError::VersionMissing(found) if found > known => StoreError::Schema { found, known },
        error => StoreError::Migrate(error),
    }
}

/// For a database that was opened before.
pub(super) fn check_version(migrator: &Migrator, applied: Option<i64>) -> Result<(), StoreError> {
    let (found, known) = (applied.unwrap_or_default(), known_version(migrator));
    if found == known {
        Ok(())
    } else {
        Err(StoreError::Schema { found, known })
    }
}
