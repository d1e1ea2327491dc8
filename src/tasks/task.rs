//! A task, and its documents made ready for a model.

use std::collections::HashMap;

use serde_json::Value;

use super::error::FormatError;
use super::examples::{Prefixes, Shots};
use super::item::{Documents, Item, Page, Prompt, Question};
use super::metric::Metric;
use super::registry::{SEVEN, TASKS};
use super::row::Row;
use super::split::Split;

/// A task: where its documents lie, and how they become text.
#[derive(Debug)]
pub struct Task {
    /// Its name, which is lm-evaluation-harness's.
    pub name: &'static str,
    /// Its version in lm-evaluation-harness 0.4.13, whose texts these are.
    pub version: &'static str,
    /// The documents that are scored.
    pub split: Split,
    /// Where worked examples come from, if it is ever run with any.
    pub examples: Option<Examples>,
    /// The numbers of worked examples it can be run with, its usual one first.
    pub shots: &'static [usize],
    /// The column whose values divide the documents into groups that are also scored by themselves.
    pub group: Option<&'static str>,
    /// What it reports.
    pub metrics: &'static [&'static Metric],
    /// A sentence before everything else; `{group}` stands for the document's group in words.
    pub(super) description: &'static str,
    pub(super) format: Format,
}

/// Worked examples for few-shot runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Examples {
    /// The documents they are taken from.
    pub split: Split,
    /// Which of them.
    pub draw: Draw,
}

/// Which examples a document gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// The first ones of its group.
    First,
    /// As Python's `random.Random(seed).sample` draws them, one document after the other: what a document gets depends
    /// on how many were before it.
    Random {
        /// The seed.
        seed: u64,
    },
}

/// How a document is read.
#[derive(Debug)]
pub(super) enum Format {
    Question(fn(&Row<'_>) -> Result<Question, FormatError>),
    Pages(fn(&[Row<'_>]) -> Result<Vec<Page>, FormatError>),
    Generation {
        /// The question and its answer.
        read: fn(&Row<'_>) -> Result<(String, String), FormatError>,
        stops: &'static [&'static str],
        max_new_tokens: usize,
    },
    /// Why it cannot be run.
    Refused(&'static str),
}

impl Task {
    /// Every task, the paper's seven first.
    pub const fn all() -> &'static [Self] {
        TASKS
    }

    /// The task of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TASKS.iter().find(|task| task.name == name)
    }

    /// The tasks that a name stands for: `seven` for the Wanda paper's seven, otherwise the one of this name.
    pub fn named(name: &str) -> Option<Vec<&'static Self>> {
        if name == "seven" {
            return SEVEN.into_iter().map(Self::find).collect();
        }
        Some(vec![Self::find(name)?])
    }

    /// Why the task cannot be run, if it cannot.
    pub const fn refusal(&self) -> Option<&'static str> {
        match self.format {
            Format::Refused(reason) => Some(reason),
            Format::Question(_) | Format::Pages(_) | Format::Generation { .. } => None,
        }
    }

    /// The documents of the rows of [`split`](Self::split), in their order.
    ///
    /// - `rows`: all rows of the split, by the column names of the public data set
    /// - `limit`: number of leading documents; of each group, for a task with groups
    pub fn documents(
        &'static self,
        rows: &[Value],
        shots: Shots<'_>,
        limit: Option<usize>,
    ) -> Result<Documents, FormatError> {
        match self.format {
            Format::Question(read) => {
                let write = |row: &Row<'_>| Ok(Item::new(row, None, "", read(row)?).worked());
                let mut prefixes = Prefixes::new(self, shots, write)?;
                let item = |(row, group): (Row<'_>, Option<&str>)| {
                    Ok(Item::new(&row, group, &prefixes.next(group)?, read(&row)?))
                };
                let rows = self.rows(self.split.name, rows, limit)?;
                let items: Result<_, _> = rows.into_iter().map(item).collect();
                items.map(Documents::Items)
            }
            Format::Pages(read) => {
                self.check_shots(shots.count)?;
                let rows = self.rows(self.split.name, rows, None)?;
                let rows: Vec<Row<'_>> = rows.into_iter().map(|(row, _)| row).collect();
                let mut pages = read(&rows)?;
                pages.truncate(limit.unwrap_or(pages.len()));
                Ok(Documents::Pages(pages))
            }
            Format::Generation {
                read,
                stops,
                max_new_tokens,
            } => {
                let write = |row: &Row<'_>| {
                    let (question, answer) = read(row)?;
                    Ok(format!("{question} {answer}\n\n"))
                };
                let mut prefixes = Prefixes::new(self, shots, write)?;
                let prompt = |(row, group): (Row<'_>, Option<&str>)| {
                    let (question, target) = read(&row)?;
                    Ok(Prompt {
                        doc_id: row.doc_id,
                        text: prefixes.next(group)? + &question,
                        target,
                        stops,
                        max_new_tokens,
                    })
                };
                let rows = self.rows(self.split.name, rows, limit)?;
                let prompts: Result<_, _> = rows.into_iter().map(prompt).collect();
                prompts.map(Documents::Prompts)
            }
            Format::Refused(reason) => Err(FormatError::Refused {
                task: self.name,
                reason,
            }),
        }
    }

    /// How many rows, from the first, [`documents`](Self::documents) needs for a limit: all of them where groups or
    /// pages are counted.
    pub const fn row_limit(&self, limit: Option<usize>) -> Option<usize> {
        match self.format {
            Format::Pages(_) => None,
            _ if self.group.is_some() => None,
            Format::Question(_) | Format::Generation { .. } | Format::Refused(_) => limit,
        }
    }

    /// Checks the number of worked examples.
    pub fn check_shots(&self, shots: usize) -> Result<(), FormatError> {
        if self.shots.contains(&shots) {
            return Ok(());
        }
        Err(FormatError::Shots {
            task: self.name,
            shots,
            allowed: self.shots,
        })
    }

    /// The first rows of each group, with their group.
    pub(super) fn rows<'a>(
        &self,
        split: &'static str,
        values: &'a [Value],
        limit: Option<usize>,
    ) -> Result<Vec<(Row<'a>, Option<&'a str>)>, FormatError> {
        let mut taken = HashMap::<Option<&str>, usize>::new();
        let mut rows = Vec::new();
        for (doc_id, value) in values.iter().enumerate() {
            let row = Row {
                task: self.name,
                split,
                doc_id,
                value,
            };
            let group = self.group.map(|column| row.text(column)).transpose()?;
            let taken = taken.entry(group).or_default();
            if limit.is_none_or(|limit| *taken < limit) {
                *taken += 1;
                rows.push((row, group));
            }
        }
        Ok(rows)
    }

    /// The name of the split that examples come from.
    pub(super) fn examples_split(&self) -> &'static str {
        self.examples.map_or("", |examples| examples.split.name)
    }

    /// The sentence before everything else.
    pub(super) fn describe(&self, group: Option<&str>) -> String {
        let words = group.unwrap_or_default().replace('_', " ");
        self.description.replace("{group}", &words)
    }
}
