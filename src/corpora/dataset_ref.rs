//! The text that a job names.

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::{Corpus, Excerpt};

/// A text to calibrate or to measure on: on the wire `{"dataset": NAME}`, or `{"dataset": "local", "path": PATH}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub enum DatasetRef {
    /// A registered text.
    Corpus(&'static Corpus),
    /// A file below the operator's data directory: text, `.jsonl`, or `.jsonl.gz`.
    Local {
        /// Its path, relative to that directory.
        path: String,
    },
}

/// The value of `dataset` for a file below the data directory.
pub const LOCAL: &str = "local";

impl DatasetRef {
    /// The name that results carry.
    pub fn name(&self) -> &str {
        match self {
            Self::Corpus(corpus) => corpus.name,
            Self::Local { path } => path,
        }
    }

    /// What of it is measured.
    pub fn excerpt(&self) -> Excerpt {
        match self {
            Self::Corpus(corpus) => corpus.excerpt,
            Self::Local { .. } => Excerpt::WHOLE,
        }
    }

    /// Upper bound of the tokens to measure on, where one is known.
    pub fn max_tokens(&self) -> Option<u64> {
        match self {
            Self::Corpus(corpus) => corpus.max_tokens,
            Self::Local { .. } => None,
        }
    }
}

impl From<&'static Corpus> for DatasetRef {
    fn from(corpus: &'static Corpus) -> Self {
        Self::Corpus(corpus)
    }
}

/// A [`DatasetRef`] as it is written.
#[derive(Serialize, Deserialize)]
struct Wire {
    dataset: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl From<DatasetRef> for Wire {
    fn from(dataset: DatasetRef) -> Self {
        match dataset {
            DatasetRef::Corpus(corpus) => Self {
                dataset: corpus.name.to_owned(),
                path: None,
            },
            DatasetRef::Local { path } => Self {
                dataset: LOCAL.to_owned(),
                path: Some(path),
            },
        }
    }
}

impl TryFrom<Wire> for DatasetRef {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Self, String> {
        match (wire.dataset.as_str(), wire.path) {
            (LOCAL, Some(path)) => Ok(Self::Local { path }),
            (LOCAL, None) => Err("missing field `path`".to_owned()),
            (name, _) => Corpus::find(name)
                .map(Self::Corpus)
                .ok_or_else(|| format!("unknown data set {name:?}")),
        }
    }
}

impl PartialSchema for DatasetRef {
    fn schema() -> RefOr<Schema> {
        let corpora = Corpus::all().iter();
        let mut words: Vec<_> = corpora
            .map(|corpus| format!("`{}`: {}", corpus.name, corpus.doc))
            .collect();
        words.push(format!(
            "`{LOCAL}`: a file below the operator's data directory."
        ));
        let dataset = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(words.join(" ")));
        let path = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "Only of a file, which is text, `.jsonl`, or `.jsonl.gz`: its path below that directory.",
            ));
        let object = ObjectBuilder::new()
            .description(Some(
                "A text (or token ids) to calibrate or to evaluate on.",
            ))
            .property("dataset", dataset)
            .required("dataset")
            .property("path", path);
        object.into()
    }
}

impl ToSchema for DatasetRef {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::corpora::{C4, DEMO};

    #[test]
    fn a_reference_is_written_by_name_or_by_path() {
        let own = DatasetRef::Local {
            path: "own.txt".to_owned(),
        };
        let pairs = [
            (DatasetRef::from(&C4), json!({"dataset": "c4"})),
            (DatasetRef::from(&DEMO), json!({"dataset": "demo"})),
            (own, json!({"dataset": "local", "path": "own.txt"})),
        ];
        for (dataset, written) in pairs {
            assert_eq!(serde_json::to_value(&dataset).unwrap(), written);
            let read: DatasetRef = serde_json::from_value(written).unwrap();
            assert_eq!(read, dataset);
        }
        for wrong in [json!({"dataset": "pile"}), json!({"dataset": "local"})] {
            assert!(serde_json::from_value::<DatasetRef>(wrong).is_err());
        }
    }
}
