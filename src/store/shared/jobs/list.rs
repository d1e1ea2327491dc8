//! Pages of jobs. The statement has the conditions that were asked for and no others, so that an index serves it.

use jiff::Timestamp;
use sqlx::{QueryBuilder, Row as _};

use super::super::columns::readable;
use super::super::{Driver, Pool};
use super::{job, job_columns};
use crate::domain::JobId;
use crate::domain::job::state::JobState;
use crate::domain::job::{Job, JobFilter};
use crate::domain::spec::JobType;
use crate::store::{StoreError, failed};

/// Lists jobs, and reads on until the page is full where rows were left out.
pub(super) async fn list(
    pool: &Pool,
    filter: &JobFilter,
    before: Option<JobId>,
    limit: u32,
) -> Result<Vec<Job>, StoreError> {
    // No stored word has this character, and PostgreSQL takes no text that has it.
    let words = [
        &filter.model,
        &filter.method,
        &filter.submitter,
        &filter.name,
        &filter.name_prefix,
    ];
    let pairs = filter.metadata.iter().flat_map(|(key, value)| [key, value]);
    let mut words = words.into_iter().flatten().chain(pairs);
    if words.any(|word| word.contains('\0')) {
        return Ok(Vec::new());
    }
    let mut before = before.map(|id| id.to_string());
    let mut jobs = Vec::new();
    loop {
        let missing = limit as usize - jobs.len();
        let mut page = page(filter, before.as_deref(), missing);
        let rows = page.build().fetch_all(pool).await;
        let rows = rows.map_err(failed("list jobs"))?;
        jobs.extend(readable(&rows, job));
        let Some(last) = rows.last().filter(|_| rows.len() == missing) else {
            return Ok(jobs);
        };
        if jobs.len() == limit as usize {
            return Ok(jobs);
        }
        before = Some(last.try_get("id").map_err(failed("list jobs"))?);
    }
}

/// The newest jobs of each state and type that was asked for, and of those the newest. Each part is read from an index
/// in the order of the page.
fn page(filter: &JobFilter, before: Option<&str>, limit: usize) -> QueryBuilder<Driver> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut query = QueryBuilder::new(concat!(
        "select ",
        job_columns!(),
        " from jobs where id in (select id from ("
    ));
    for (number, (state, job_type)) in parts(filter).into_iter().enumerate() {
        if number > 0 {
            query.push(" union all ");
        }
        query.push("select id from (select id from jobs where 1 = 1");
        if let Some(state) = state {
            query.push(" and state = ").push_bind(state.as_str());
        }
        if let Some(job_type) = job_type {
            query.push(" and type = ").push_bind(job_type.as_str());
        }
        push_conditions(&mut query, filter, before);
        query.push(" order by id desc limit ").push_bind(limit);
        query.push(") as part");
    }
    query
        .push(") as parts order by id desc limit ")
        .push_bind(limit);
    query.push(") order by id desc");
    query
}

/// The states and types to read one by one; one part without either where any will do.
fn parts(filter: &JobFilter) -> Vec<(Option<JobState>, Option<JobType>)> {
    let states = one_by_one(&filter.states);
    let types = one_by_one(&filter.types);
    let pairs = states.iter();
    pairs
        .flat_map(|state| types.iter().map(|job_type| (*state, *job_type)))
        .collect()
}

/// Each once: a part that is read twice would take the room of others.
fn one_by_one<T: Copy + PartialEq>(asked: &[T]) -> Vec<Option<T>> {
    let mut words = Vec::new();
    for word in asked.iter().copied().map(Some) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() {
        words.push(None);
    }
    words
}

fn push_conditions(query: &mut QueryBuilder<Driver>, filter: &JobFilter, before: Option<&str>) {
    if let Some(before) = before {
        query.push(" and id < ").push_bind(before.to_owned());
    }
    for (column, word) in [
        ("model_id", &filter.model),
        ("method", &filter.method),
        ("submitter", &filter.submitter),
        ("name", &filter.name),
    ] {
        if let Some(word) = word {
            query.push(format_args!(" and {column} = "));
            query.push_bind(word.clone());
        }
    }
    if let Some(prefix) = &filter.name_prefix {
        query.push(" and name >= ").push_bind(prefix.clone());
        if let Some(end) = end_of_prefix(prefix) {
            query.push(" and name < ").push_bind(end);
        }
    }
    for (key, value) in &filter.metadata {
        query.push(" and id in (select job_id from job_metadata where key = ");
        query.push_bind(key.clone());
        query.push(" and value = ").push_bind(value.clone());
        query.push(")");
    }
    for (comparison, time) in [(">=", filter.created_after), ("<", filter.created_before)] {
        if let Some(time) = time.map(Timestamp::as_millisecond) {
            query.push(format_args!(" and created_at {comparison} "));
            query.push_bind(time);
        }
    }
}

/// The first text after all that begin with the prefix, by bytes; `None` where there is none.
fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut start = prefix.to_owned();
    loop {
        let last = start.pop()?;
        let mut later = last..=char::MAX;
        // A range of characters passes over the numbers that are none.
        if let Some(next) = later.nth(1) {
            start.push(next);
            return Some(start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::end_of_prefix;

    #[test]
    fn a_prefix_ends_before_the_next_text_of_its_length() {
        let last = char::MAX;
        for (prefix, end) in [
            ("run-".to_owned(), Some("run.")),
            ("\u{d7ff}".to_owned(), Some("\u{e000}")),
            (format!("a{last}{last}"), Some("b")),
            (last.to_string(), None),
            (String::new(), None),
        ] {
            assert_eq!(end_of_prefix(&prefix).as_deref(), end, "{prefix:?}");
        }
    }
}
