//! Whether the schema of a database is the one that this program knows.

use sqlx::migrate::{MigrateError, Migrator};

use super::StoreError;

/// The newest migration that was applied.
pub(super) const APPLIED_VERSION: &str =
    "select max(version) as version from _sqlx_migrations where success";

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
