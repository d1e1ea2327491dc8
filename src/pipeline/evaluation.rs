//! Perplexity before and after, on the files that are delivered: the artifact is read back from disk.

use std::path::Path;

use candle_core::Device;

use super::listener::EngineObserver;
use super::plan::{DeviceName, EvaluationPlan, ModelSource, window_len};
use super::stopwatch::Stopwatch;
use super::text::Text;
use super::tokenizer::ModelTokenizer;
use super::{Listener, PipelineError, artifact, memory, resolve};
use crate::domain::ErrorCode;
use crate::domain::attempt::Phase;
use crate::domain::manifest::{EvaluationReport, PerplexityResult, Results};
use crate::engine::{Checkpoint, Decoder, ModelConfig, ResidentBlocks, TokenWindows, perplexity};

/// Share of the available memory that a model may take to be kept between measurements.
const RESIDENT_SHARE: u64 = 4;

/// A text cut into windows.
pub(super) struct PreparedText {
    name: String,
    sha256: String,
    windows: TokenWindows,
}

/// Reads, tokenises and cuts the texts of a plan; done before the pruning, so that a missing text fails early.
pub(super) fn prepare(
    plan: &EvaluationPlan,
    model_dir: &Path,
    config: &ModelConfig,
) -> Result<Vec<PreparedText>, PipelineError> {
    if plan.texts.is_empty() {
        return Ok(Vec::new());
    }
    let seq_len = window_len(plan.seq_len, config)?;
    let tokenizer = ModelTokenizer::load(model_dir, config.vocab)?;
    let prepared = plan.texts.iter().map(|text| {
        let content = Text::read(&text.path)?;
        let mut ids = tokenizer.encode(&content.joined("\n\n"))?;
        let whole = ids.len() / seq_len;
        let asked = plan.windows.unwrap_or(whole).max(1);
        if asked > whole {
            let (name, tokens) = (&text.name, ids.len());
            let message = format!(
                "evaluation text {name:?} has {tokens} tokens, {asked} windows of {seq_len} need {}",
                asked * seq_len
            );
            return Err(PipelineError::refused(ErrorCode::TextTooShort, message));
        }
        ids.truncate(asked * seq_len);
        Ok(PreparedText {
            name: text.name.clone(),
            sha256: content.sha256,
            windows: TokenWindows::new(ids, seq_len)?,
        })
    });
    prepared.collect()
}

/// The perplexity of the model in `dir` on each text.
pub(super) fn measure_all(
    dir: &Path,
    device: &Device,
    texts: &[PreparedText],
    what: &str,
    listener: &mut dyn Listener,
) -> Result<Vec<f64>, PipelineError> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let checkpoint = Checkpoint::open(dir)?;
    let decoder = Decoder::open(&checkpoint, device)?;
    let resident_bytes = memory::available_bytes() / RESIDENT_SHARE;
    let mut model = ResidentBlocks::new(&decoder, resident_bytes);
    let measured = texts.iter().map(|text| {
        let name = format!("{what} perplexity on {}, block", text.name);
        let mut observer = EngineObserver::tokens(listener, name);
        Ok(perplexity(&mut model, &text.windows, &mut observer)?.value)
    });
    measured.collect()
}

/// What the manifest says of the measurements.
pub(super) fn results(
    texts: &[PreparedText],
    before: &[f64],
    after: &[f64],
    device: &DeviceName,
) -> Vec<PerplexityResult> {
    let rows = texts.iter().enumerate().map(|(i, text)| PerplexityResult {
        dataset: text.name.clone(),
        text_sha256: text.sha256.clone(),
        protocol: "paper".to_owned(),
        seq_len: text.windows.seq_len(),
        windows: text.windows.len(),
        tokens: text.windows.n_tokens(),
        dtype: "f32".to_owned(),
        device: device.name(),
        before: before.get(i).copied(),
        after: after.get(i).copied(),
    });
    rows.collect()
}

/// Measures a model that is not pruned here.
pub fn evaluate(
    model: &ModelSource,
    plan: &EvaluationPlan,
    device: &DeviceName,
    listener: &mut dyn Listener,
) -> Result<EvaluationReport, PipelineError> {
    let mut stopwatch = Stopwatch::start();
    stopwatch.enter(Phase::Resolving, listener);
    let opened = device.open()?;
    let model = resolve::resolve(model, &mut stopwatch, listener)?;
    let checkpoint = Checkpoint::open(&model.dir)?;
    let config = ModelConfig::read(&model.dir)?;
    let texts = prepare(plan, &model.dir, &config)?;
    let provenance = artifact::provenance(&model, &checkpoint, &config)?;
    stopwatch.enter(Phase::Evaluating, listener);
    let measured = measure_all(&model.dir, &opened, &texts, "dense", listener)?;
    Ok(EvaluationReport {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        model: provenance,
        results: Results {
            perplexity: results(&texts, &measured, &[], device),
        },
        device: device.name(),
        compute_dtype: "f32".to_owned(),
        timings_s: stopwatch.stop(),
        peak_rss_bytes: memory::peak_rss_bytes(),
    })
}
