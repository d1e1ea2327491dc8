//! A task as clients see it before they ask for it.

use serde::Serialize;

/// A declared task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct TaskInfo {
    /// What `evaluation.tasks` takes.
    pub name: String,
    /// The version of its format.
    pub version: String,
    /// The numbers of worked examples it can be run with, its usual one first.
    pub shots: Vec<usize>,
    /// What it reports, the main one first.
    pub metrics: Vec<String>,
    /// Why it cannot be run; `null` where it can.
    pub unsupported: Option<String>,
    /// Where its documents would come from, with those of its usual number of worked examples; `null` where they cannot
    /// be had.
    pub documents: Option<DocumentSource>,
}

/// Where documents come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentSource {
    /// The server's data directory.
    Local,
    /// The hub, or its cache.
    Hub,
}
