//! Whether jobs can be accepted.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::Jobs;
use super::capacity::MIN_FREE_BYTES;
use crate::machine;
use crate::store::StoreError;

/// One line of the readiness report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What is wrong with it; `None` = nothing.
    pub problem: Option<String>,
}

impl Check {
    /// A line without a problem unless there is one.
    pub fn new(name: &'static str, problem: Option<String>) -> Self {
        Self { name, problem }
    }
}

impl Jobs {
    /// Whether jobs can be accepted now, line by line.
    pub async fn ready(&self) -> Vec<Check> {
        let (database, schema) = match self.parts.store.ping().await {
            Ok(()) => (None, None),
            Err(error @ StoreError::Schema { .. }) => (None, Some(problem(&error))),
            Err(error) => (
                Some(problem(&error)),
                Some("the database did not answer".to_owned()),
            ),
        };
        let directories: Vec<_> = self.parts.directories.values().cloned().collect();
        let written = tokio::task::spawn_blocking(move || least_free_bytes(&directories));
        let (directory, space) = match written.await {
            Ok(Ok(free)) => (None, too_little(free)),
            Ok(Err(error)) => (Some(problem(&error)), Some("the check failed".to_owned())),
            Err(panic) => (Some(problem(&panic)), Some("the check failed".to_owned())),
        };
        let mut checks = vec![
            Check::new("database", database),
            Check::new("schema", schema),
            Check::new("data_directory", directory),
            Check::new("free_space", space),
        ];
        // A folder is one of the directories.
        if self.parts.artifacts.is_shared() {
            let artifacts = self.parts.artifacts.probe().await;
            let problem = artifacts.err().map(|error| problem(&error));
            checks.push(Check::new("artifacts", problem));
        }
        checks
    }
}

/// Of the file systems that jobs are written to; fails where one of the directories cannot be written to.
fn least_free_bytes(directories: &[PathBuf]) -> io::Result<u64> {
    let mut least = u64::MAX;
    for directory in directories {
        tempfile::tempfile_in(directory)?;
        least = least.min(machine::free_bytes(directory)?);
    }
    Ok(least)
}

fn too_little(free_bytes: u64) -> Option<String> {
    (free_bytes < MIN_FREE_BYTES)
        .then(|| format!("{free_bytes} bytes are free, {MIN_FREE_BYTES} are needed"))
}

/// The error and its causes in one line, for operators.
fn problem(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}",
            self.name,
            self.problem.as_deref().unwrap_or("ok")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_takes_no_jobs() {
        assert_eq!(too_little(MIN_FREE_BYTES), None);
        let problem = too_little(100).unwrap();
        assert!(problem.contains("100 bytes are free"), "{problem}");
    }
}
