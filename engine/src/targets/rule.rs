//! Rules: what is asked of the linears whose names match a regular expression.

use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::Contradiction;
use crate::pattern::{Goal, Pattern};

/// Bytes of a compiled expression, and of what it keeps while it searches.
const SIZE_LIMIT: usize = 1 << 16;

/// The value of a rule that leaves linears as they are.
const DENSE: &str = "dense";

/// What is asked of linears by their names. Written `REGEX=VALUE`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearRule {
    /// A regular expression that is searched for in the names of linears.
    #[serde(rename = "match")]
    pub expression: String,
    /// The fraction of zeros at any position, in [0, 1).
    #[serde(default)]
    pub sparsity: Option<f64>,
    /// An `N:M` pattern.
    #[serde(default)]
    pub pattern: Option<Pattern>,
    /// Whether the linears are left as they are.
    #[serde(default)]
    pub dense: bool,
}

impl LinearRule {
    /// What is asked of a linear; `None` = it is left as it is.
    pub fn goal(&self) -> Option<Goal> {
        let pattern = self.pattern.unwrap_or_default();
        let sparsity = self.sparsity.or(pattern.implied_sparsity());
        let sparsity = sparsity.filter(|_| !self.dense);
        sparsity.map(|sparsity| Goal::new(pattern, sparsity))
    }

    /// Why it means nothing by itself, if it does not.
    pub fn contradiction(&self) -> Option<Contradiction> {
        let wrong = |part, detail: String| Some(Contradiction { part, detail });
        if let Err(detail) = self.compiled() {
            return wrong("match", detail);
        }
        let is_given = [self.sparsity.is_some(), self.pattern.is_some(), self.dense];
        if is_given.into_iter().filter(|given| *given).count() != 1 {
            let detail = "a rule says one of `sparsity`, `pattern` and `dense`";
            return wrong("", detail.to_owned());
        }
        let open = self.pattern.filter(|it| it.implied_sparsity().is_none());
        open.and_then(|open| {
            wrong(
                "pattern",
                format!("{open} needs a `sparsity`: give that alone"),
            )
        })
    }

    /// The expression, ready to search.
    pub(super) fn compiled(&self) -> Result<Regex, String> {
        let mut builder = RegexBuilder::new(&self.expression);
        let built = builder
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .build();
        built.map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ").trim_end_matches('.');
            format!("{:?} is no regular expression: {reason}", self.expression)
        })
    }
}

impl FromStr for LinearRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once('=');
        let (expression, value) = parts.ok_or("expected REGEX=VALUE")?;
        let mut rule = Self {
            expression: expression.to_owned(),
            sparsity: None,
            pattern: None,
            dense: value == DENSE,
        };
        if let Ok(sparsity) = value.parse::<f64>() {
            if !(0.0..1.0).contains(&sparsity) {
                return Err(format!("{value} is not a fraction in [0, 1)"));
            }
            rule.sparsity = Some(sparsity);
        } else if !rule.dense {
            let pattern = value.parse::<Pattern>();
            rule.pattern = Some(pattern.map_err(|_| {
                format!("the value {value:?} is no fraction, no pattern N:M and not {DENSE:?}")
            })?);
        }
        match rule.contradiction() {
            Some(Contradiction { detail, .. }) => Err(detail),
            None => Ok(rule),
        }
    }
}

impl fmt::Display for LinearRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.expression)?;
        match (self.sparsity, self.pattern) {
            (Some(sparsity), _) => write!(f, "{sparsity}"),
            (None, Some(pattern)) => write!(f, "{pattern}"),
            (None, None) => f.write_str(DENSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        let half = Goal::new(Pattern::Unstructured, 0.5);
        let two_of_four = Goal::new(Pattern::KeptOfGroup { kept: 2, group: 4 }, 0.5);
        for (text, goal) in [
            (r"layers\.0\.=0.5", Some(half)),
            ("a=b=2:4", Some(two_of_four)),
            ("(q|k)_proj$=dense", None),
        ] {
            let rule: LinearRule = text.parse().unwrap();
            assert_eq!((rule.goal(), rule.to_string().as_str()), (goal, text));
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<LinearRule>(&json).unwrap(), rule);
        }
    }

    #[test]
    fn what_is_no_rule_is_told_why() {
        for (text, reason) in [
            ("q_proj", "expected REGEX=VALUE"),
            ("q_proj=1.0", "1.0 is not a fraction in [0, 1)"),
            ("q_proj=NaN", "NaN is not a fraction in [0, 1)"),
            ("q_proj=most", "is no fraction, no pattern N:M"),
            ("q_proj=unstructured", "unstructured needs a `sparsity`"),
            ("(q_proj=0.5", "is no regular expression: unclosed group"),
            (r"(a)\1=0.5", "backreferences are not supported"),
            (r"(\w{200}){200}=0.5", "exceeds size limit"),
        ] {
            let error = text.parse::<LinearRule>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let both = LinearRule {
            dense: true,
            ..".=0.5".parse().unwrap()
        };
        assert!(both.contradiction().is_some());
    }
}
