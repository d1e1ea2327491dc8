//! What can be wrong with the documents of a task.

/// Documents that a task cannot read, or a task that cannot be run so. Never tells what a document says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A column is missing, or holds something else than it must.
    #[error(
        "task {task:?}: document {doc_id} of split {split:?}: column {column:?}: expected {expected}, found {found}"
    )]
    Column {
        /// The task.
        task: &'static str,
        /// The split that the document is of: the task's own or that of its examples.
        split: &'static str,
        /// The document's place in its split, from 0.
        doc_id: usize,
        /// The column, with a dot between the names of nested ones.
        column: &'static str,
        /// What the task needs there.
        expected: String,
        /// What is there, by its type or number.
        found: String,
    },
    /// There are fewer worked examples than asked for.
    #[error("task {task:?}: {wanted} examples are needed{}, split {split:?} has {found}", of_group(group.as_deref()))]
    Examples {
        /// The task.
        task: &'static str,
        /// Where the examples come from.
        split: &'static str,
        /// Among which documents they are looked for, where a task keeps its groups apart.
        group: Option<String>,
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// The task is not defined for this number of examples.
    #[error("task {task:?} runs with {} examples, not {shots}", list(allowed))]
    Shots {
        /// The task.
        task: &'static str,
        /// How many were asked for.
        shots: usize,
        /// The numbers that it is defined for.
        allowed: &'static [usize],
    },
    /// The task is declared but cannot be run.
    #[error("task {task:?} cannot be run: {reason}")]
    Refused {
        /// The task.
        task: &'static str,
        /// Why not.
        reason: &'static str,
    },
}

fn of_group(group: Option<&str>) -> String {
    group.map_or_else(String::new, |group| format!(" for {group:?}"))
}

fn list(numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(" or ")
}
