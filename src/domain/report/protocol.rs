//! What a number depends on, and the rule that only numbers of one protocol are compared.

use serde::{Deserialize, Serialize};

use crate::domain::spec::BosRule;

/// Hexadecimal digits of a digest that stand in an id.
const DIGEST_DIGITS: usize = 12;

/// What a task's numbers depend on.
///
/// The id is made from the fields, here and when a protocol is read: no value of this type has an id of other fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(from = "ProtocolFields")]
pub struct Protocol {
    /// All of the below in one line.
    id: String,
    #[serde(flatten)]
    fields: ProtocolFields,
}

/// The parts of a [`Protocol`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProtocolFields {
    /// The task's name.
    pub task: String,
    /// The version of its format.
    pub version: String,
    /// SHA-256 of the data set's file.
    pub dataset_sha256: String,
    /// Its rows.
    pub rows: usize,
    /// Worked examples before each question.
    pub shots: usize,
    /// SHA-256 of the file they come from; `null` without any.
    #[serde(default)]
    pub examples_sha256: Option<String>,
    /// Whether a token for the beginning of text goes first.
    pub bos: BosRule,
    /// The longest input; a longer one loses its beginning.
    pub max_length: usize,
    /// Dtype of the computation.
    pub dtype: String,
    /// Device of the computation.
    pub device: String,
    /// The first so many documents; `null` = all.
    pub limit: Option<usize>,
    /// Documents scored.
    pub n: usize,
}

impl Protocol {
    /// The protocol of these parts, with its id:
    ///
    /// `boolq@2.0 data=1a2b3c4d5e6f shots=0 bos=tokenizer max_length=8192 dtype=f32 device=cpu limit=100 n=100`
    ///
    /// `data` is the beginning of the data set's digest; the digest fixes the rows, so they are left out. Without a
    /// limit the line says `limit=all`.
    pub fn new(fields: ProtocolFields) -> Self {
        let ProtocolFields {
            task,
            version,
            dataset_sha256,
            rows: _,
            shots,
            examples_sha256,
            bos,
            max_length,
            dtype,
            device,
            limit,
            n,
        } = &fields;
        let examples = examples_sha256.as_ref().map_or_else(String::new, |digest| {
            format!(" examples={}", shortened(digest))
        });
        let (data, bos) = (shortened(dataset_sha256), bos.as_str());
        let limit = or_all(*limit);
        let id = format!(
            "{task}@{version} data={data} shots={shots}{examples} bos={bos} max_length={max_length} \
             dtype={dtype} device={device} limit={limit} n={n}"
        );
        Self { id, fields }
    }

    /// All parts in one line.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The parts.
    pub fn fields(&self) -> &ProtocolFields {
        &self.fields
    }
}

impl From<ProtocolFields> for Protocol {
    fn from(fields: ProtocolFields) -> Self {
        Self::new(fields)
    }
}

/// What a perplexity depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerplexityProtocol {
    /// Name or file of the text.
    pub dataset: String,
    /// SHA-256 of the text.
    pub text_sha256: String,
    /// SHA-256 of the token ids: another tokenizer makes other tokens of the same text.
    pub window_sha256: String,
    /// How the text is cut and scored, such as `paper`.
    pub protocol: String,
    /// Tokens per window.
    pub seq_len: usize,
    /// Number of windows.
    pub windows: usize,
    /// Dtype of the computation.
    pub dtype: String,
    /// Device of the computation.
    pub device: String,
}

impl PerplexityProtocol {
    /// All parts in one line: `wikitext2/paper data=1a2b3c4d5e6f tokens=2b3c4d5e6f70 seq_len=2048 windows=60 dtype=f32 device=cpu`.
    pub fn id(&self) -> String {
        let Self {
            dataset,
            text_sha256,
            window_sha256,
            protocol,
            seq_len,
            windows,
            dtype,
            device,
        } = self;
        let (data, tokens) = (shortened(text_sha256), shortened(window_sha256));
        format!(
            "{dataset}/{protocol} data={data} tokens={tokens} seq_len={seq_len} windows={windows} dtype={dtype} \
             device={device}"
        )
    }
}

/// Two numbers that must not stand in one difference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("results of different protocols are not compared: {differences}")]
pub struct ProtocolMismatch {
    /// Each field that differs, with both values.
    pub differences: String,
}

/// Whether numbers of these protocols may stand in one difference: only if every field is the same.
pub fn comparable(before: &Protocol, after: &Protocol) -> Result<(), ProtocolMismatch> {
    let (b, a) = (&before.fields, &after.fields);
    let pairs = [
        ("task", b.task.clone(), a.task.clone()),
        ("version", b.version.clone(), a.version.clone()),
        (
            "dataset_sha256",
            b.dataset_sha256.clone(),
            a.dataset_sha256.clone(),
        ),
        ("rows", b.rows.to_string(), a.rows.to_string()),
        ("shots", b.shots.to_string(), a.shots.to_string()),
        (
            "examples_sha256",
            b.examples_sha256.clone().unwrap_or_default(),
            a.examples_sha256.clone().unwrap_or_default(),
        ),
        ("bos", b.bos.as_str().to_owned(), a.bos.as_str().to_owned()),
        (
            "max_length",
            b.max_length.to_string(),
            a.max_length.to_string(),
        ),
        ("dtype", b.dtype.clone(), a.dtype.clone()),
        ("device", b.device.clone(), a.device.clone()),
        ("limit", or_all(b.limit), or_all(a.limit)),
        ("n", b.n.to_string(), a.n.to_string()),
    ];
    let differing = pairs
        .into_iter()
        .filter(|(_, before, after)| before != after);
    let differences: Vec<String> = differing
        .map(|(field, before, after)| format!("{field} is {before} and {after}"))
        .collect();
    if differences.is_empty() {
        Ok(())
    } else {
        Err(ProtocolMismatch {
            differences: differences.join(", "),
        })
    }
}

fn shortened(digest: &str) -> &str {
    digest.get(..DIGEST_DIGITS).unwrap_or(digest)
}

fn or_all(limit: Option<usize>) -> String {
    limit.map_or_else(|| "all".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boolq() -> ProtocolFields {
        ProtocolFields {
            task: "boolq".to_owned(),
            version: "2.0".to_owned(),
            dataset_sha256: "1a2b3c4d5e6f7788".repeat(4),
            rows: 3270,
            shots: 0,
            examples_sha256: None,
            bos: BosRule::Tokenizer,
            max_length: 8192,
            dtype: "f32".to_owned(),
            device: "cpu".to_owned(),
            limit: Some(100),
            n: 100,
        }
    }

    #[test]
    fn an_id_is_one_readable_line() {
        assert_eq!(
            Protocol::new(boolq()).id(),
            "boolq@2.0 data=1a2b3c4d5e6f shots=0 bos=tokenizer max_length=8192 dtype=f32 device=cpu limit=100 n=100"
        );
        let with_examples = Protocol::new(ProtocolFields {
            shots: 5,
            examples_sha256: Some("3c4d5e6f70819202".repeat(4)),
            ..boolq()
        });
        assert!(
            with_examples
                .id()
                .contains(" shots=5 examples=3c4d5e6f7081 bos=")
        );
        let whole = Protocol::new(ProtocolFields {
            limit: None,
            n: 3270,
            ..boolq()
        });
        assert!(whole.id().ends_with(" limit=all n=3270"), "{}", whole.id());
        let text = PerplexityProtocol {
            dataset: "wikitext2".to_owned(),
            text_sha256: "1a2b3c4d5e6f7788".repeat(4),
            window_sha256: "2b3c4d5e6f708899".repeat(4),
            protocol: "paper".to_owned(),
            seq_len: 2048,
            windows: 60,
            dtype: "f32".to_owned(),
            device: "cpu".to_owned(),
        };
        assert_eq!(
            text.id(),
            "wikitext2/paper data=1a2b3c4d5e6f tokens=2b3c4d5e6f70 seq_len=2048 windows=60 dtype=f32 device=cpu"
        );
    }

    #[test]
    fn an_id_on_the_wire_that_contradicts_the_fields_is_not_believed() {
        let protocol = Protocol::new(boolq());
        let mut json = serde_json::to_value(&protocol).unwrap();
        assert_eq!(json["id"], protocol.id());
        assert_eq!(json["limit"], 100);
        json["id"] = "boolq@1.0".into();
        assert_eq!(serde_json::from_value::<Protocol>(json).unwrap(), protocol);
    }

    #[test]
    fn protocols_that_differ_anywhere_are_not_compared_and_the_field_is_named() {
        type Change = fn(&mut ProtocolFields);
        let changes: [(&str, Change); 12] = [
            ("task is boolq and rte", |p| p.task = "rte".to_owned()),
            ("version is 2.0 and 1", |p| p.version = "1".to_owned()),
            ("dataset_sha256 is 1a2b", |p| {
                p.dataset_sha256 = "00".repeat(32);
            }),
            ("rows is 3270 and 3271", |p| p.rows = 3271),
            ("shots is 0 and 5", |p| p.shots = 5),
            ("examples_sha256 is  and 3c4d", |p| {
                p.examples_sha256 = Some("3c4d5e6f70819202".to_owned());
            }),
            ("bos is tokenizer and never", |p| p.bos = BosRule::Never),
            ("max_length is 8192 and 2048", |p| p.max_length = 2048),
            ("dtype is f32 and bf16", |p| p.dtype = "bf16".to_owned()),
            ("device is cpu and cuda:0", |p| {
                p.device = "cuda:0".to_owned();
            }),
            ("limit is 100 and all", |p| p.limit = None),
            ("n is 100 and 99", |p| p.n = 99),
        ];
        let before = Protocol::new(boolq());
        assert_eq!(comparable(&before, &before.clone()), Ok(()));
        for (named, change) in changes {
            let mut fields = boolq();
            change(&mut fields);
            let message = comparable(&before, &Protocol::new(fields))
                .unwrap_err()
                .to_string();
            assert!(message.contains(named), "{message}");
            assert!(!message.contains(", "), "one field differs: {message}");
        }
    }
}
