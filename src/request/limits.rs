//! What a body may ask for.

use std::ops::RangeInclusive;

/// Most calibration windows.
pub const N_SAMPLES: u64 = 4096;
/// Tokens of a window; perplexity needs one to predict.
pub const SEQ_LEN: RangeInclusive<u64> = 2..=131_072;
/// Most rules by the names of linears.
pub const RULES: usize = 64;
/// Characters of a rule's regular expression.
pub const RULE_CHARS: usize = 255;
/// Most blocks that a list of sparsities can be for.
pub const BLOCKS: usize = 1024;
/// Most texts to measure perplexity on.
pub const PERPLEXITY_TEXTS: usize = 16;
/// Most tasks to measure.
pub const TASKS: usize = 32;
/// Most worked examples before a question, whatever the task.
pub const SHOTS: u64 = 100;
/// The highest threshold for a ratio of perplexities.
pub const PERPLEXITY_RATIO: f64 = 1e6;
/// The highest threshold for a divergence, in nats per token.
pub const KL: f64 = 100.0;
/// Characters of a job's name.
pub const NAME_CHARS: usize = 200;
/// Pairs of metadata.
pub const METADATA_PAIRS: usize = 16;
/// Characters of a metadata key.
pub const METADATA_KEY_CHARS: usize = 64;
/// Characters of a metadata value.
pub const METADATA_VALUE_CHARS: usize = 512;
/// Characters of a submitter's label.
pub const SUBMITTER_CHARS: usize = 64;
/// What a priority can be.
pub const PRIORITY: RangeInclusive<i32> = -100..=100;
/// What a deadline can be: up to 30 days.
pub const DEADLINE_SECONDS: RangeInclusive<u64> = 1..=2_592_000;
/// Characters of a webhook's URL.
pub const URL_CHARS: usize = 2048;
/// Characters of a webhook's description.
pub const DESCRIPTION_CHARS: usize = 200;
/// Characters of a revision, a local model id, or a path.
pub const PATH_CHARS: usize = 255;
