//! Reads columns of rows, and names the column that cannot be read.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{ColumnIndex, Decode, Row as _, Type};

use super::{Driver, Row};
use crate::domain::JobId;
use crate::store::StoreError;

/// A row, and how to name it when a column cannot be read.
pub(super) struct Columns<'r> {
    row: &'r Row,
    key: String,
}

impl<'r> Columns<'r> {
    pub(super) fn new(row: &'r Row, table: &str) -> Self {
        Self {
            row,
            key: format!("a row of {table}"),
        }
    }

    pub(super) fn get<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, Driver> + Type<Driver>,
        &'static str: ColumnIndex<Row>,
    {
        self.row
            .try_get(column)
            .map_err(|source| self.inconsistent(column, source))
    }

    /// A count that is stored as a signed integer.
    pub(super) fn count<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T::Error: std::error::Error + Send + Sync + 'static,
    {
        T::try_from(self.get(column)?).map_err(|source| self.inconsistent(column, source))
    }

    /// The same where there may be none.
    pub(super) fn optional_count<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError>
    where
        T::Error: std::error::Error + Send + Sync + 'static,
    {
        let count: Option<i64> = self.get(column)?;
        count
            .map(T::try_from)
            .transpose()
            .map_err(|source| self.inconsistent(column, source))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        Timestamp::from_millisecond(self.get(column)?)
            .map_err(|source| self.inconsistent(column, source))
    }

    pub(super) fn optional_time(
        &self,
        column: &'static str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let millis: Option<i64> = self.get(column)?;
        millis
            .map(Timestamp::from_millisecond)
            .transpose()
            .map_err(|source| self.inconsistent(column, source))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(self.get(column)?).map_err(|source| self.inconsistent(column, source))
    }

    pub(super) fn optional_json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = self.get(column)?;
        text.map(serde_json::from_str)
            .transpose()
            .map_err(|source| self.inconsistent(column, source))
    }

    pub(super) fn optional_word<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let word: Option<String> = self.get(column)?;
        let value = word.map(|word| serde_json::from_value(serde_json::Value::String(word)));
        value
            .transpose()
            .map_err(|source| self.inconsistent(column, source))
    }

    /// A value that is stored as its own word.
    pub(super) fn word<T: std::str::FromStr<Err = String>>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        self.get::<&str>(column)?
            .parse()
            .map_err(|message: String| self.inconsistent(column, message))
    }

    /// Names the row in errors.
    pub(super) fn set_key(&mut self, key: String) {
        self.key = key;
    }

    fn inconsistent(
        &self,
        column: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Inconsistent {
            column,
            row: self.key.clone(),
            source: source.into(),
        }
    }
}

/// A row of jobs, and its id.
pub(super) fn keyed(row: &Row) -> Result<(JobId, Columns<'_>), StoreError> {
    let mut columns = Columns::new(row, "jobs");
    let id: JobId = columns.word("id")?;
    columns.set_key(id.to_string());
    Ok((id, columns))
}

/// The rows that can be read. One that cannot is logged and left out: it must not hide the others.
pub(super) fn readable<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, StoreError>) -> Vec<T> {
    let read = rows.iter().filter_map(|row| match read(row) {
        Ok(value) => Some(value),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a stored row is left out");
            None
        }
    });
    read.collect()
}

/// The databases know signed integers only; no count of ours comes near the limit.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A length of time in milliseconds, with the same limit.
pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Plain data of `domain`: strings, numbers, maps with string keys.
pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|error| unreachable!("the words of the service are JSON: {error}"))
}
