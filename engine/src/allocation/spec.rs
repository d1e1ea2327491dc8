//! An allocation with its parameters, as it stands in requests and reports.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ALLOCATIONS, AllocationId, DenseBlock, LEAST, MOST};
use crate::error::Result;
use crate::model::Decoder;
use crate::observe::observe;
use crate::observer::Observer;
use crate::recipe::Contradiction;
use crate::windows::TokenWindows;

/// Something that can be set.
#[derive(Debug)]
pub struct Parameter {
    /// Its word in requests and reports.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub doc: &'static str,
    /// What it may be.
    pub kind: ParameterKind,
}

/// What a parameter may be.
#[derive(Debug)]
pub enum ParameterKind {
    /// A number.
    Number {
        /// Its bounds.
        range: RangeInclusive<f64>,
        /// Where it is not given.
        default: f64,
    },
    /// A list of fractions in [0, 1), which must be given.
    Fractions,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParameterValue {
    /// A number.
    Number(f64),
    /// A list.
    List(Vec<f64>),
}

/// An allocation and its parameters. Written `NAME,PARAMETER=NUMBER,…` where they are numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AllocationSpec {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: AllocationId,
    /// Those that are given.
    #[serde(flatten)]
    pub parameters: BTreeMap<String, ParameterValue>,
}

impl Default for AllocationSpec {
    fn default() -> Self {
        ALLOCATIONS[0].into()
    }
}

impl From<AllocationId> for AllocationSpec {
    /// With the usual parameters.
    fn from(kind: AllocationId) -> Self {
        let parameters = kind.parameters().iter();
        let usual = parameters.filter_map(|parameter| match parameter.kind {
            ParameterKind::Number { default, .. } => {
                let value = ParameterValue::Number(default);
                Some((parameter.name.to_owned(), value))
            }
            ParameterKind::Fractions => None,
        });
        Self {
            kind,
            parameters: usual.collect(),
        }
    }
}

impl AllocationSpec {
    /// The list of sparsities, one for each block, that a user gives.
    pub fn listed(sparsities: Vec<f64>) -> Option<Self> {
        let takes_list = |kind: &&AllocationId| kind.list().is_some();
        let kind = *ALLOCATIONS.iter().find(takes_list)?;
        let name = kind.list()?.name.to_owned();
        Some(Self {
            kind,
            parameters: [(name, ParameterValue::List(sparsities))].into(),
        })
    }

    /// Whether every linear goes by its own goal.
    pub fn is_uniform(&self) -> bool {
        self.kind == ALLOCATIONS[0]
    }

    /// Why it means nothing by itself, if it does not.
    pub fn contradiction(&self) -> Option<Contradiction> {
        let wrong = |part, detail| Some(Contradiction { part, detail });
        for parameter in self.kind.parameters() {
            let (name, given) = (parameter.name, self.parameters.get(parameter.name));
            let is_right = match (&parameter.kind, given) {
                (ParameterKind::Number { range, .. }, Some(ParameterValue::Number(number))) => {
                    range.contains(number)
                }
                (ParameterKind::Fractions, Some(ParameterValue::List(list))) => {
                    list.iter().all(|fraction| (0.0..1.0).contains(fraction))
                }
                (ParameterKind::Number { .. }, None) => true,
                _ => false,
            };
            if !is_right {
                let expected = match &parameter.kind {
                    ParameterKind::Number { range, .. } => {
                        format!("a number within {} and {}", range.start(), range.end())
                    }
                    ParameterKind::Fractions => "a list of fractions in [0, 1)".to_owned(),
                };
                return wrong(name, format!("{} takes as {name} {expected}", self.kind));
            }
        }
        let limits = self.limits();
        (limits.start() > limits.end()).then(|| Contradiction {
            part: LEAST.name,
            detail: format!("{} is above {}", LEAST.name, MOST.name),
        })
    }

    /// What it goes by of each block of a dense decoder, in one pass with a block in memory at a time.
    pub fn measure(
        &self,
        decoder: &Decoder<'_>,
        windows: &TokenWindows,
        observer: &mut dyn Observer,
    ) -> Result<Vec<f64>> {
        let mut measured = Vec::with_capacity(decoder.plan().blocks.len());
        let needs = self.kind.needs();
        observe(decoder, windows, needs, observer, &mut |index, seen| {
            let block = DenseBlock {
                checkpoint: decoder.checkpoint(),
                plan: &decoder.plan().blocks[index],
                seen,
            };
            measured.push(self.kind.measure(&block, self)?);
            Ok(())
        })?;
        Ok(measured)
    }

    /// A number that is given, or usual.
    pub(super) fn number(&self, parameter: &Parameter) -> f64 {
        match (self.parameters.get(parameter.name), &parameter.kind) {
            (Some(ParameterValue::Number(number)), _) => *number,
            (_, ParameterKind::Number { default, .. }) => *default,
            (_, ParameterKind::Fractions) => f64::NAN,
        }
    }

    /// A list that is given.
    pub(super) fn fractions(&self, parameter: &Parameter) -> &[f64] {
        match self.parameters.get(parameter.name) {
            Some(ParameterValue::List(list)) => list,
            _ => &[],
        }
    }

    /// The lowest and the highest sparsity of a block.
    pub(crate) fn limits(&self) -> RangeInclusive<f64> {
        let parameters = self.kind.parameters();
        if parameters.iter().any(|it| it.name == LEAST.name) {
            self.number(&LEAST)..=self.number(&MOST)
        } else {
            0.0..=1.0
        }
    }
}

impl AllocationId {
    /// The parameter that is a list.
    fn list(&self) -> Option<&'static Parameter> {
        let mut parameters = self.parameters().iter();
        parameters.find(|it| matches!(it.kind, ParameterKind::Fractions))
    }
}

impl FromStr for AllocationSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let kind: AllocationId = parts.next().unwrap_or_default().parse()?;
        let mut spec = Self::from(kind);
        for part in parts {
            let known = || {
                let names = kind.parameters().iter().map(|it| it.name);
                let names: Vec<_> = names.collect();
                format!(
                    "{kind} takes no {part:?}; expected NAME=NUMBER of {}",
                    names.join(", ")
                )
            };
            let (name, value) = part.split_once('=').ok_or_else(known)?;
            if !kind.parameters().iter().any(|it| it.name == name) {
                return Err(known());
            }
            let number = value.parse::<f64>().map_err(|_| known())?;
            let value = ParameterValue::Number(number);
            spec.parameters.insert(name.to_owned(), value);
        }
        match spec.contradiction() {
            Some(Contradiction { detail, .. }) => Err(detail),
            None => Ok(spec),
        }
    }
}

impl fmt::Display for AllocationSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        for (name, value) in &self.parameters {
            match value {
                ParameterValue::Number(number) => write!(f, ",{name}={number}")?,
                ParameterValue::List(list) => write!(f, ",{name}={list:?}")?,
            }
        }
        Ok(())
    }
}
