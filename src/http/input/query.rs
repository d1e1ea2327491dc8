//! Query parameters.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::http::output::problem::{FieldProblem, Problem};

/// The query string. Handlers take parameters by name; any that is left over is an error.
pub(in crate::http) struct Parameters {
    pairs: Vec<(String, String)>,
    known: Vec<String>,
    errors: Vec<FieldProblem>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // Decoding replaces what is no text, which would then be looked for.
        if has_bytes_that_are_no_text(parts.uri.query().unwrap_or_default()) {
            let detail = "the query string is not UTF-8".to_owned();
            return Err(Problem::invalid(vec![FieldProblem::parameter(
                "",
                "malformed_query",
                detail,
            )]));
        }
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = pairs.map_err(|rejection| {
            Problem::invalid(vec![FieldProblem::parameter(
                "",
                "malformed_query",
                rejection.body_text(),
            )])
        })?;
        Ok(Self {
            pairs,
            known: Vec::new(),
            errors: Vec::new(),
        })
    }
}

fn has_bytes_that_are_no_text(query: &str) -> bool {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| first == b'%');
        let decoded = escaped.and_then(|digits| hex::decode(digits).ok());
        rest = if decoded.is_some() { &tail[2..] } else { tail };
        bytes.extend(decoded.unwrap_or_else(|| vec![first]));
    }
    std::str::from_utf8(&bytes).is_err()
}

/// A query string without parameters.
pub(in crate::http) struct NoParameters;

impl<S: Send + Sync> FromRequestParts<S> for NoParameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parameters = Parameters::from_request_parts(parts, state).await?;
        parameters.finish().map(|()| Self)
    }
}

impl Parameters {
    /// The parameter as a `T`, if it is there and right.
    pub(in crate::http) fn take<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        self.take_with(name, |text| {
            text.parse().map_err(|error: T::Err| error.to_string())
        })
    }

    /// The parameter, read by `parse`.
    pub(in crate::http) fn take_with<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(name.to_owned());
        let mut values = self
            .pairs
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value);
        let value = values.next()?;
        if values.next().is_some() {
            self.errors.push(FieldProblem::parameter(
                name,
                "duplicate",
                "is given more than once".to_owned(),
            ));
            return None;
        }
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(detail) => {
                self.errors
                    .push(FieldProblem::parameter(name, "invalid_format", detail));
                None
            }
        }
    }

    /// Every parameter `name[KEY]`, by its key; each costs the database a lookup.
    pub(in crate::http) fn take_map(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let key = |parameter: &str| {
            let key = parameter.strip_prefix(name)?.strip_prefix('[')?;
            let key = key.strip_suffix(']')?;
            (!key.is_empty() && !key.contains(['[', ']'])).then(|| key.to_owned())
        };
        let given = self
            .pairs
            .extract_if(.., |(parameter, _)| key(parameter).is_some());
        for (parameter, value) in given.collect::<Vec<_>>() {
            let key = key(&parameter).unwrap_or_default();
            if found.insert(key, value).is_some() {
                let detail = "is given more than once".to_owned();
                let problem = FieldProblem::parameter(&parameter, "duplicate", detail);
                self.errors.push(problem);
            }
        }
        if found.len() > most {
            let detail = format!(
                "{} pairs are given, at most {most} are allowed",
                found.len()
            );
            let problem = FieldProblem::parameter(name, "out_of_range", detail);
            self.errors.push(problem);
        }
        self.known.push(format!("{name}[KEY]"));
        found
    }

    /// A page's length.
    pub(in crate::http) fn limit(&mut self, default: u32, most: u32) -> u32 {
        let limit = self.take_with("limit", |text| match text.parse::<u32>() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
            _ => Err(format!("{text:?} is not a whole number from 1 to {most}")),
        });
        limit.unwrap_or(default)
    }

    /// All errors at once, unknown names included.
    pub(in crate::http) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in self
            .pairs
            .iter()
            .filter(|(name, _)| !self.known.contains(name))
        {
            let detail = if self.known.is_empty() {
                "this route takes no parameters".to_owned()
            } else {
                format!(
                    "unknown parameter, expected one of {}",
                    self.known.join(", ")
                )
            };
            self.errors
                .push(FieldProblem::parameter(name, "unknown_parameter", detail));
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.errors))
        }
    }
}
