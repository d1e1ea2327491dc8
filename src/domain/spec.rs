//! What a job shall do. A value of these types has been checked: it can't be out of range.
//!
//! Requests become a [`JobSpec`](super::JobSpec) in [`JobRequest::parse`](super::request::JobRequest::parse), which
//! reports every wrong field at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::evaluation::EvaluationSpec;
use super::job::JobId;

/// The id of the model that comes with the program.
pub const BUNDLED_MODEL: &str = "demo";

/// Where the model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum ModelRef {
    /// A repository of the model hub.
    Hub {
        /// `organisation/name`.
        id: String,
        /// Branch, tag or commit; `main` unless asked.
        revision: String,
    },
    /// A directory below the operator's models directory, or the bundled model `demo`.
    Local {
        /// The directory's name, possibly nested with `/`.
        id: String,
    },
    /// The artifact of a succeeded job; for jobs of the type `evaluate`.
    Job {
        /// That job.
        #[schema(value_type = String)]
        id: JobId,
    },
}

impl ModelRef {
    /// The id alone, as lists and filters show it.
    pub fn id(&self) -> Cow<'_, str> {
        match self {
            Self::Hub { id, .. } | Self::Local { id } => id.into(),
            Self::Job { id } => id.to_string().into(),
        }
    }
}

/// How weights are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Method {
    /// `|W_ij| · ‖X_j‖₂` within each output row (arXiv 2306.11695, eq. 1).
    Wanda,
    /// `|W_ij|` over the whole linear.
    Magnitude,
}

impl Method {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wanda => "wanda",
            Self::Magnitude => "magnitude",
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "wanda" => Ok(Self::Wanda),
            "magnitude" => Ok(Self::Magnitude),
            other => Err(format!(
                "unknown method {other:?}, expected wanda or magnitude"
            )),
        }
    }
}

/// Which positions may become zero. On the wire `"unstructured"` or `"N:M"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Any position.
    Unstructured,
    /// Exactly `kept` of every `group` consecutive input features stay.
    KeptOfGroup {
        /// N of `N:M`.
        kept: usize,
        /// M of `N:M`.
        group: usize,
    },
}

/// Architectures that can be pruned, by their name in `config.json`.
pub const SUPPORTED_ARCHITECTURES: [&str; 1] = crate::engine::model::SUPPORTED_ARCHITECTURES;

/// The widest group of an N:M pattern.
pub const MAX_GROUP: usize = 64;

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unstructured" {
            return Ok(Self::Unstructured);
        }
        let digits = |part: &str| {
            (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse().ok())
                .flatten()
        };
        let numbers = text
            .split_once(':')
            .and_then(|(n, m)| Some((digits(n)?, digits(m)?)));
        match numbers {
            Some((kept, group)) if kept >= 1 && kept < group && group <= MAX_GROUP => {
                Ok(Self::KeptOfGroup { kept, group })
            }
            Some(_) => Err(format!(
                "in the pattern {text:?}, N:M needs 1 <= N < M <= {MAX_GROUP}"
            )),
            None => Err(format!(
                "unknown pattern {text:?}, expected \"unstructured\" or \"N:M\" such as \"2:4\""
            )),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstructured => f.write_str("unstructured"),
            Self::KeptOfGroup { kept, group } => write!(f, "{kept}:{group}"),
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A text (or token ids) to calibrate or to evaluate on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "dataset", rename_all = "snake_case")]
pub enum DatasetRef {
    /// The bundled demo text.
    Demo,
    /// WikiText-2 raw.
    Wikitext2,
    /// C4, English.
    C4,
    /// A file below the operator's data directory: text, `.jsonl`, or `.jsonl.gz`.
    Local {
        /// Its path, relative to that directory.
        path: String,
    },
}

impl DatasetRef {
    /// The name that results carry.
    pub fn name(&self) -> &str {
        match self {
            Self::Demo => "demo",
            Self::Wikitext2 => "wikitext2",
            Self::C4 => "c4",
            Self::Local { path } => path,
        }
    }
}

/// Which token windows the activations are observed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CalibrationSpec {
    /// The corpus.
    #[serde(flatten)]
    pub dataset: DatasetRef,
    /// Number of windows.
    pub n_samples: usize,
    /// Tokens per window; `null` = the smaller of the model's context and 2048.
    pub seq_len: Option<usize>,
    /// Seed of the sampler.
    pub seed: u64,
}

/// Which model is pruned, how, and what is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PruneSpec {
    /// The model.
    pub model: ModelRef,
    /// How weights are ranked.
    pub method: Method,
    /// Fraction of zeros asked for, in [0, 1).
    pub sparsity: f64,
    /// Which positions may become zero.
    #[schema(value_type = String, example = "2:4")]
    pub pattern: Pattern,
    /// The calibration windows.
    pub calibration: CalibrationSpec,
    /// What is measured.
    pub evaluation: EvaluationSpec,
}

/// A measurement without pruning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EvaluateSpec {
    /// The model.
    pub model: ModelRef,
    /// What it is compared with.
    pub baseline: Option<ModelRef>,
    /// What is measured.
    pub evaluation: EvaluationSpec,
}

/// Free key-value pairs of the submitter, kept as they came.
pub type Metadata = BTreeMap<String, String>;
