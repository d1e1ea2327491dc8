//! What `prune` observes activations on.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use super::evaluation::{data_roots, registered};
use super::model::ModelArgument;
use crate::bundled;
use crate::corpora::{C4, Corpus, DatasetRef, Excerpt, Use};
use crate::datasets::Place;
use crate::pipeline::{CalibrationPlan, TextSource};
use crate::request::Defaults;

/// The calibration windows.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Calibration")]
pub(in crate::cli) struct CalibrationArgs {
    /// Registered text to draw windows from [default: c4, or the bundled model's own text]
    #[arg(long = "calibration", value_name = "NAME", value_parser = PossibleValuesParser::new(registered()))]
    dataset: Option<String>,
    /// Text to draw windows from: plain text, .jsonl or .jsonl.gz
    #[arg(
        long = "calibration-file",
        value_name = "FILE",
        conflicts_with = "dataset"
    )]
    file: Option<PathBuf>,
    /// The windows themselves: safetensors with `input_ids` [n_samples, seq_len]
    #[arg(long = "calibration-ids", value_name = "FILE", conflicts_with_all = ["dataset", "file", "n_samples", "seq_len", "seed"])]
    ids: Option<PathBuf>,
    /// Number of windows to draw [default: 16 on a CPU, 128 on a GPU]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=65536))]
    n_samples: Option<u32>,
    /// Tokens per window [default: the smaller of the model's context and 2048]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    seq_len: Option<u32>,
    /// Seed of the sampler [default: 0]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl CalibrationArgs {
    /// The windows of a method that reads any.
    pub(in crate::cli) fn plan(
        &self,
        model: &ModelArgument,
        data_dir: Option<PathBuf>,
        defaults: Defaults,
    ) -> anyhow::Result<CalibrationPlan> {
        if let Some(path) = &self.ids {
            return Ok(CalibrationPlan::Given(path.clone()));
        }
        let own = || match self.dataset {
            Some(_) => None,
            None => model.bundled_text(bundled::CALIBRATION_TEXT),
        };
        let (name, place) = if let Some(path) = self.file.clone().or_else(own) {
            (crate::cli::file_name(&path), Place::File(path))
        } else {
            let named = self.dataset.as_deref().and_then(Corpus::find);
            let dataset = DatasetRef::from(named.unwrap_or(&C4));
            let place = data_roots(data_dir).locate(&dataset, Use::Calibration)?;
            (dataset.name().to_owned(), place)
        };
        Ok(CalibrationPlan::Drawn {
            text: TextSource {
                name,
                place,
                excerpt: Excerpt::CALIBRATION,
            },
            n_samples: self
                .n_samples
                .map_or(defaults.n_samples, |count| count as usize),
            seq_len: self.seq_len.map(|len| len as usize),
            seed: self.seed.unwrap_or_default(),
        })
    }
}
