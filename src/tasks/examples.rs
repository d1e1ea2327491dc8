//! Worked examples that are put before a document.

use std::collections::HashMap;

use serde_json::Value;

use super::error::FormatError;
use super::python::PythonRandom;
use super::row::Row;
use super::task::{Draw, Task};

/// How many worked examples come before each document, and the rows they are taken from.
#[derive(Debug, Clone, Copy)]
pub struct Shots<'a> {
    /// Examples for each document.
    pub count: usize,
    /// The rows of the split that the task takes examples from, all of them; not read where `count` is 0.
    pub pool: &'a [Value],
}

impl Shots<'_> {
    /// No examples.
    pub const NONE: Self = Self {
        count: 0,
        pool: &[],
    };
}

/// What comes before the documents of a task, document by document.
pub(super) struct Prefixes<'a> {
    task: &'static Task,
    count: usize,
    /// Written out, by group.
    worked: HashMap<Option<&'a str>, Vec<String>>,
    random: PythonRandom,
}

impl<'a> Prefixes<'a> {
    /// `write` writes an example out, with its answer and what parts it from the next.
    pub(super) fn new(
        task: &'static Task,
        shots: Shots<'a>,
        write: impl Fn(&Row<'_>) -> Result<String, FormatError>,
    ) -> Result<Self, FormatError> {
        task.check_shots(shots.count)?;
        let mut worked = HashMap::<_, Vec<String>>::new();
        if shots.count > 0 {
            for (row, group) in task.rows(task.examples_split(), shots.pool, None)? {
                worked.entry(group).or_default().push(write(&row)?);
            }
        }
        let seed = match task.examples.map(|examples| examples.draw) {
            Some(Draw::Random { seed }) => seed,
            Some(Draw::First) | None => 0,
        };
        Ok(Self {
            task,
            count: shots.count,
            worked,
            random: PythonRandom::seed(seed),
        })
    }

    /// What comes before the next document: the task's description, then the examples.
    pub(super) fn next(&mut self, group: Option<&str>) -> Result<String, FormatError> {
        let mut prefix = self.task.describe(group);
        if self.count == 0 {
            return Ok(prefix);
        }
        let worked = self.worked.get(&group).map_or(&[][..], Vec::as_slice);
        if worked.len() < self.count {
            return Err(FormatError::Examples {
                task: self.task.name,
                split: self.task.examples_split(),
                group: group.map(str::to_owned),
                wanted: self.count,
                found: worked.len(),
            });
        }
        match self.task.examples.map(|examples| examples.draw) {
            Some(Draw::Random { .. }) => {
                for place in self.random.sample(worked.len(), self.count) {
                    prefix.push_str(&worked[place]);
                }
            }
            Some(Draw::First) | None => {
                prefix.extend(worked[..self.count].iter().map(String::as_str));
            }
        }
        Ok(prefix)
    }
}
