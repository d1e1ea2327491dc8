//! Everything that can go wrong in the engine, with the facts that tell why.

use std::path::{Path, PathBuf};

use super::pattern::Pattern;
use super::statistic::Statistic;

/// The engine's result.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Why the engine stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Reading or writing a file failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// `config.json` does not say what it must.
    #[error("config.json: {0}")]
    InvalidConfig(String),
    /// The architecture, or a setting of it, cannot be run.
    #[error("unsupported architecture: {0}")]
    UnsupportedArchitecture(String),
    /// The weights are not safetensors.
    #[error("unsafe weight format: {0}")]
    UnsafeFormat(String),
    /// A safetensors file is truncated, or its header lies.
    #[error("malformed safetensors file {}: {reason}", path.display())]
    MalformedCheckpoint {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The index names a shard that is not there.
    #[error("shard {shard} is missing in {}", dir.display())]
    MissingShard {
        /// File name of the shard.
        shard: String,
        /// The model directory.
        dir: PathBuf,
    },
    /// There is no file that weights are read from.
    #[error("there is no model.safetensors in {}, nor its index{}", dir.display(), instead(found))]
    MissingWeights {
        /// The model directory.
        dir: PathBuf,
        /// Its other safetensors files.
        found: Vec<String>,
    },
    /// A file that goes along with the weights lies elsewhere.
    #[error("{name} is a link that leads out of the model directory; put the file itself there")]
    LinkedFile {
        /// Its name.
        name: String,
    },
    /// The weights hold a tensor that the architecture does not read.
    #[error("the weights hold \"{0}\", which this architecture does not read")]
    UnreadTensor(String),
    /// No tensor of this name.
    #[error("tensor \"{0}\" is missing")]
    MissingTensor(String),
    /// A tensor's shape is not what the configuration says.
    #[error("tensor \"{name}\" has shape {actual:?}, expected {expected:?}")]
    ShapeMismatch {
        /// Which tensor.
        name: String,
        /// Its shape in the file.
        actual: Vec<usize>,
        /// The shape by the configuration.
        expected: Vec<usize>,
    },
    /// A tensor's dtype cannot be pruned.
    #[error("tensor \"{name}\" has dtype {dtype}, expected F32, F16 or BF16")]
    UnsupportedDtype {
        /// Which tensor.
        name: String,
        /// Its dtype in the file.
        dtype: String,
    },
    /// The pattern does not fit a linear.
    #[error("the pattern {pattern} does not fit the {d_in} input features of linear \"{linear}\"")]
    PatternMismatch {
        /// Which linear.
        linear: String,
        /// Its input features.
        d_in: usize,
        /// Which pattern.
        pattern: Pattern,
    },
    /// A rule has no linear to apply to, or no meaning.
    #[error("the rule `{rule}`: {reason}")]
    RuleMismatch {
        /// As it is written on the command line.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Zeros cannot be shared among the blocks as was asked.
    #[error("the allocation {allocation}: {reason}")]
    AllocationMismatch {
        /// Its name.
        allocation: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Parts cannot be removed from this model as was asked.
    #[error("the structure {structure}: {reason}")]
    StructureMismatch {
        /// Its name.
        structure: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The windows cannot be used with this model.
    #[error("{0}")]
    InvalidWindows(String),
    /// A method looks at a statistic that it did not ask for.
    #[error("{0:?} of the inputs was not observed")]
    NotObserved(Statistic),
    /// A sequence cannot be scored or continued.
    #[error("sequence {sequence}: {reason}")]
    InvalidSequence {
        /// Its number, from 0.
        sequence: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Two models cannot be compared token by token.
    #[error("vocabularies of {first} and {second} tokens cannot be compared")]
    VocabularyMismatch {
        /// Size of the first model's.
        first: usize,
        /// Size of the second model's.
        second: usize,
    },
    /// A token id has no embedding.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    TokenOutOfVocabulary {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// NaN or infinity.
    #[error("non-finite values in {what} of {place}")]
    NonFinite {
        /// `activations`, `scores`, `weights`, `logits` or `losses`.
        what: &'static str,
        /// The block and linear, the window, or the sequence.
        place: String,
    },
    /// The Gram matrix of a linear's input cannot be factored.
    #[error("the Hessian of {linear} is singular, even with a damping of {damping} of its mean")]
    SingularHessian {
        /// Which linear.
        linear: String,
        /// The most that was tried, relative to the mean of the diagonal.
        damping: f64,
    },
    /// The observer asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// The tensor library failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}

fn instead(found: &[String]) -> String {
    if found.is_empty() {
        String::new()
    } else {
        format!("; it has {}", found.join(", "))
    }
}

impl EngineError {
    /// Whether a device had too little memory for a tensor. Of a GPU's errors the library passes on only the text.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Tensor(error) if error.to_string().contains("OUT_OF_MEMORY"))
    }

    /// For `map_err` on I/O: names the action and the file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
