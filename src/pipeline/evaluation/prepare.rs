//! What shall be measured, read and tokenised: done before the pruning, so that what is missing or wrong fails early.

use std::path::{Path, PathBuf};

use super::encode::Encoder;
use super::task::{PreparedTask, Work};
use crate::corpora::Excerpt;
use crate::datasets::SplitRows;
use crate::domain::ErrorCode;
use crate::domain::report::protocol::{PerplexityProtocol, Protocol, ProtocolFields, comparable};
use crate::domain::spec::{EvaluationSpec, GenerationRule};
use crate::engine::{ModelPlan, TokenWindows};
use crate::pipeline::calibrate::window_sha256;
use crate::pipeline::plan::{EvaluationPlan, TaskSource, TextSource, window_len};
use crate::pipeline::resolve::{LocalFiles, TaskFiles};
use crate::pipeline::text::{ModelTokenizer, Text};
use crate::pipeline::{DeviceName, PipelineError};
use crate::tasks::Shots;

/// What a model writes after these shows whether it still writes.
const PROMPTS: [&str; 3] = [
    "The capital of France is",
    "To make a good cup of tea, you",
    "Once upon a time, in a small village by the sea,",
];

/// Tokens written after each of them, or half of the context where that is less.
const NEW_TOKENS: usize = 48;

/// Everything that is measured, for one tokenizer.
pub(in crate::pipeline) struct Prepared {
    pub(super) texts: Vec<PreparedText>,
    pub(super) tasks: Vec<PreparedTask>,
    pub(super) prompts: Vec<PreparedPrompt>,
    pub(super) tokenizer: Option<ModelTokenizer>,
    pub(super) new_tokens: usize,
    /// Whether the prompts are continued whatever it takes.
    pub(super) writes_in_any_case: bool,
    /// The device that everything is computed on.
    pub(super) device: String,
}

/// A text cut into windows.
#[derive(Debug, PartialEq)]
pub(super) struct PreparedText {
    pub(super) protocol: PerplexityProtocol,
    pub(super) windows: TokenWindows,
}

/// A prompt and its tokens.
#[derive(Debug, PartialEq)]
pub(super) struct PreparedPrompt {
    pub(super) text: &'static str,
    pub(super) tokens: Vec<u32>,
}

impl PreparedText {
    /// Tokens that a model is given.
    pub(super) fn weight(&self) -> u64 {
        self.windows.n_tokens() as u64
    }
}

impl PreparedTask {
    /// Tokens that a model is given, or writes at most.
    pub(super) fn weight(&self) -> u64 {
        let given: usize = self.work.tokens().map(<[u32]>::len).sum();
        let written: usize = match &self.work {
            Work::Choose(..) | Work::Predict(..) => 0,
            Work::Generate(prompts, _) => prompts.iter().map(|prompt| prompt.max_new_tokens).sum(),
        };
        (given + written) as u64
    }
}

impl Prepared {
    /// Tokens of the prompts, and those that are written after them.
    pub(super) fn prompts_weight(&self) -> u64 {
        let given: usize = self.prompts.iter().map(|prompt| prompt.tokens.len()).sum();
        (given + self.prompts.len() * self.new_tokens) as u64
    }

    /// Reads, tokenises and cuts everything that `plan` names.
    pub(in crate::pipeline) fn new(
        plan: &EvaluationPlan,
        files: &LocalFiles,
        model_dir: &Path,
        model_plan: &ModelPlan,
        device: &DeviceName,
    ) -> Result<Self, PipelineError> {
        if plan.is_empty() {
            return Ok(Self {
                texts: Vec::new(),
                tasks: Vec::new(),
                prompts: Vec::new(),
                tokenizer: None,
                new_tokens: 0,
                writes_in_any_case: false,
                device: device.name(),
            });
        }
        let tokenizer = ModelTokenizer::load(model_dir, model_plan.vocab)?;
        let encoder = Encoder::new(&tokenizer, plan.spec.bos, model_plan.max_seq_len)?;
        let texts = plan
            .texts
            .iter()
            .zip(&files.texts)
            .map(|(text, files)| {
                prepare_text(text, files, &plan.spec, &tokenizer, model_plan, device)
            })
            .collect::<Result<_, _>>()?;
        let tasks = plan
            .tasks
            .iter()
            .zip(&files.tasks)
            .map(|(task, files)| {
                prepare_task(task, files, &plan.spec, &encoder, model_plan, device)
            })
            .collect::<Result<_, _>>()?;
        let new_tokens = NEW_TOKENS.min(model_plan.max_seq_len / 2);
        let prompts = PROMPTS.into_iter().map(|text| {
            let (tokens, _) = encoder.prompt(text, new_tokens)?;
            Ok(PreparedPrompt { text, tokens })
        });
        let prompts = prompts.collect::<Result<_, PipelineError>>()?;
        let mut prepared = Self {
            texts,
            tasks,
            prompts,
            tokenizer: Some(tokenizer),
            new_tokens,
            writes_in_any_case: plan.spec.generations == GenerationRule::Always,
            device: device.name(),
        };
        let is_wanted = match plan.spec.generations {
            GenerationRule::Always => true,
            GenerationRule::Never => false,
            GenerationRule::Auto => prepared.prompts_weight() <= prepared.weight(),
        };
        if !is_wanted {
            prepared.prompts.clear();
        }
        Ok(prepared)
    }

    /// Whether models write, whatever that takes.
    pub(super) fn must_write(&self) -> bool {
        let is_written = |task: &PreparedTask| matches!(task.work, Work::Generate(..));
        let continues = self.writes_in_any_case && !self.prompts.is_empty();
        continues || self.tasks.iter().any(is_written)
    }

    /// Tokens of all texts and tasks.
    fn weight(&self) -> u64 {
        let texts = self.texts.iter().map(PreparedText::weight);
        texts
            .chain(self.tasks.iter().map(PreparedTask::weight))
            .sum()
    }

    /// The tokens that end what a model writes.
    pub(super) fn end_tokens(&self) -> &[u32] {
        let tokenizer = self.tokenizer.as_ref();
        tokenizer.map_or(&[], ModelTokenizer::end_tokens)
    }

    /// Two models can be compared where both are given the same tokens.
    pub(in crate::pipeline) fn ensure_same_tokens(
        &self,
        other: &Self,
    ) -> Result<(), PipelineError> {
        for (own, others) in self.texts.iter().zip(&other.texts) {
            let (own_len, len) = (own.windows.seq_len(), others.windows.seq_len());
            if own_len != len {
                return Err(mismatch(format!(
                    "windows of {own_len} and {len} tokens are not compared: ask for a length that fits both models"
                )));
            }
            if own != others {
                let dataset = &own.protocol.dataset;
                return Err(mismatch(format!(
                    "model and baseline are given other tokens on the text {dataset:?}: their tokenizers differ"
                )));
            }
        }
        for (own, others) in self.tasks.iter().zip(&other.tasks) {
            comparable(&others.protocol, &own.protocol)
                .map_err(|error| mismatch(error.to_string()))?;
            if own.work != others.work {
                let task = own.task.name;
                return Err(mismatch(format!(
                    "model and baseline are given other tokens on the task {task}: their tokenizers differ"
                )));
            }
        }
        if self.prompts != other.prompts || self.end_tokens() != other.end_tokens() {
            let message =
                "model and baseline begin or end texts with other tokens: their tokenizers differ";
            return Err(mismatch(message.to_owned()));
        }
        Ok(())
    }
}

fn mismatch(message: String) -> PipelineError {
    PipelineError::refused(ErrorCode::BaselineMismatch, message)
}

fn prepare_text(
    text: &TextSource,
    files: &[PathBuf],
    spec: &EvaluationSpec,
    tokenizer: &ModelTokenizer,
    model_plan: &ModelPlan,
    device: &DeviceName,
) -> Result<PreparedText, PipelineError> {
    let seq_len = window_len(spec.seq_len, model_plan)?;
    let Excerpt {
        separator,
        documents,
        windows,
    } = text.excerpt;
    let content = Text::read(files, documents)?;
    let mut ids = tokenizer.encode(&content.joined(separator))?;
    let whole = ids.len() / seq_len;
    let all = windows.map_or(whole, |windows| windows.min(whole));
    let most = spec
        .max_tokens
        .map_or(all, |tokens| all.min(tokens / seq_len));
    let asked = spec.windows.unwrap_or(most).max(1);
    if asked > whole {
        let (name, tokens) = (&text.name, ids.len());
        let message = format!(
            "evaluation text {name:?} has {tokens} tokens, {asked} windows of {seq_len} need {}",
            asked * seq_len
        );
        return Err(PipelineError::refused(ErrorCode::TextTooShort, message));
    }
    ids.truncate(asked * seq_len);
    let windows = TokenWindows::new(ids, seq_len)?;
    Ok(PreparedText {
        protocol: PerplexityProtocol {
            dataset: text.name.clone(),
            text_sha256: content.sha256(separator),
            window_sha256: window_sha256(&windows),
            protocol: "paper".to_owned(),
            seq_len,
            windows: asked,
            dtype: "f32".to_owned(),
            device: device.name(),
        },
        windows,
    })
}

fn prepare_task(
    source: &TaskSource,
    files: &TaskFiles,
    spec: &EvaluationSpec,
    encoder: &Encoder<'_>,
    model_plan: &ModelPlan,
    device: &DeviceName,
) -> Result<PreparedTask, PipelineError> {
    let task = source.task;
    let documents = SplitRows::read(&files.documents, task.row_limit(spec.limit))?;
    let examples = SplitRows::read(&files.examples, None)?;
    let shots = Shots {
        count: source.shots,
        pool: &examples.rows,
    };
    let texts = task.documents(&documents.rows, shots, spec.limit)?;
    let (work, truncated) = Work::prepare(texts, encoder)?;
    let protocol = Protocol::new(ProtocolFields {
        task: task.name.to_owned(),
        version: task.version.to_owned(),
        dataset_sha256: documents.sha256,
        rows: documents.n_rows,
        shots: source.shots,
        examples_sha256: (source.shots > 0).then_some(examples.sha256),
        bos: spec.bos,
        max_length: model_plan.max_seq_len,
        dtype: "f32".to_owned(),
        device: device.name(),
        limit: spec.limit,
        n: work.len(),
    });
    Ok(PreparedTask {
        task,
        protocol,
        work,
        truncated,
    })
}
