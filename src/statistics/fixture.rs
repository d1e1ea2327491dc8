//! What the tests of this module share.

use crate::domain::report::protocol::{Protocol, ProtocolFields};
use crate::domain::spec::BosRule;

/// A protocol of `n` documents of `task`.
pub(super) fn protocol(task: &str, n: usize) -> Protocol {
    Protocol::new(ProtocolFields {
        task: task.to_owned(),
        version: "1.0".to_owned(),
        dataset_sha256: "1a2b3c4d5e6f7788".repeat(4),
        rows: n,
        shots: 0,
        examples_sha256: None,
        bos: BosRule::Tokenizer,
        max_length: 8192,
        dtype: "f32".to_owned(),
        device: "cpu".to_owned(),
        limit: None,
        n,
    })
}
