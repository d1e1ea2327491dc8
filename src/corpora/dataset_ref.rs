//! The text that a job names.

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
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
        let corpora = Corpus::all().iter().rev();
        let schema = corpora.fold(OneOfBuilder::new(), |schema, corpus| {
            schema.item(described(ObjectBuilder::new(), corpus.name, corpus.doc))
        });
        let path = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Its path, relative to that directory."));
        let local = described(
            ObjectBuilder::new().property("path", path).required("path"),
            LOCAL,
            "A file below the operator's data directory: text, `.jsonl`, or `.jsonl.gz`.",
        );
        schema
            .item(local)
            .description(Some(
                "A text (or token ids) to calibrate or to evaluate on.",
            ))
            .into()
    }
}

/// An object whose `dataset` is this word.
fn described(object: ObjectBuilder, word: &'static str, doc: &str) -> ObjectBuilder {
    let value = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([word]));
    object
        .description(Some(doc))
        .property("dataset", value)
        .required("dataset")
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
