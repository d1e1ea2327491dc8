//! What `prune` and `evaluate` can measure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::builder::PossibleValuesParser;

use super::model::ModelArgument;
use crate::bundled;
use crate::corpora::{Corpus, DatasetRef, Excerpt, Home};
use crate::datasets::{DataRoots, Place};
use crate::domain::HubReach;
use crate::domain::spec::{EvaluationSpec, Guard, TaskRef};
use crate::pipeline::{EvaluationPlan, TextSource};
use crate::request::Defaults;
use crate::tasks::Task;

/// What is measured.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Measuring")]
pub(in crate::cli) struct EvaluationArgs {
    /// Text to measure perplexity on; may be given several times
    #[arg(long = "eval-file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Registered texts to measure perplexity on
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = PossibleValuesParser::new(registered()))]
    perplexity: Vec<String>,
    /// Tokens per perplexity window [default: the smaller of the model's context and 2048]
    #[arg(long = "eval-seq-len", value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    window_len: Option<u32>,
    /// Measure perplexity on this many windows only, from the first on
    #[arg(long = "eval-windows", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    windows: Option<u32>,
    /// Measure perplexity on no more tokens of a text than this, or on `all` [default: 65536 on a CPU, all on a GPU]
    #[arg(long = "eval-max-tokens", value_name = "COUNT", value_parser = max_tokens, conflicts_with = "windows")]
    max_tokens: Option<MaxTokens>,
    /// Tasks to score, such as boolq,rte or mmlu:5 for five worked examples; `seven` stands for the Wanda paper's
    #[arg(long, value_name = "TASK,…", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Score this many documents of each task only, from the first on
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Token for the beginning of text before a task's context: as the tokenizer does, or never
    #[arg(long, value_name = "RULE", default_value = "tokenizer", value_parser = ["tokenizer", "never"])]
    bos: String,
    /// Continue fixed prompts: where it takes no longer than the measurement (auto), always, or never
    #[arg(long, value_name = "RULE", default_value = "auto", value_parser = ["auto", "always", "never"])]
    generations: String,
    /// Where data sets lie; what is not there comes from the hub
    #[arg(long, value_name = "DIR", env = "SECATEUR_DATA_DIR")]
    pub(in crate::cli) data_dir: Option<PathBuf>,
    /// Where scores are kept, so that a model is measured once and a measurement that was killed goes on
    #[arg(long, value_name = "DIR", env = "SECATEUR_SCORES_DIR")]
    scores_dir: Option<PathBuf>,
}

/// A number of tokens; `None` = all.
#[derive(Debug, Clone, Copy)]
struct MaxTokens(Option<usize>);

fn max_tokens(text: &str) -> Result<MaxTokens, String> {
    match text.parse() {
        _ if text == "all" => Ok(MaxTokens(None)),
        Ok(count) if count >= 2 => Ok(MaxTokens(Some(count))),
        _ => Err("expected a number of tokens, or `all`".to_owned()),
    }
}

impl EvaluationArgs {
    /// The bundled model is measured on its own text unless something else is asked for.
    pub(in crate::cli) fn plan(
        &self,
        model: &ModelArgument,
        defaults: Defaults,
    ) -> anyhow::Result<EvaluationPlan> {
        let roots = data_roots(self.data_dir.clone());
        let mut tasks: Vec<TaskRef> = Vec::new();
        for word in &self.tasks {
            tasks.extend(named(word)?);
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = tasks.iter().find(|task| !names.insert(&task.name)) {
            bail!("invalid_request: the task {} is given twice", twice.name);
        }
        let corpora = self.perplexity.iter();
        let spec = EvaluationSpec {
            perplexity: corpora
                .filter_map(|name| Corpus::find(name))
                .map(DatasetRef::from)
                .collect(),
            seq_len: self.window_len.map(|len| len as usize),
            windows: self.windows.map(|count| count as usize),
            max_tokens: match (self.windows, self.max_tokens) {
                (Some(_), _) => None,
                (None, Some(MaxTokens(asked))) => asked,
                (None, None) => defaults.max_tokens,
            },
            tasks,
            limit: self.limit.map(|limit| limit as usize),
            bos: self.bos.parse().map_err(anyhow::Error::msg)?,
            guard: Guard::default(),
            generations: self.generations.parse().map_err(anyhow::Error::msg)?,
        };
        let mut plan = EvaluationPlan::locate(spec, &roots, self.scores_dir.clone())?;
        let files = self.files.iter().map(|path| file(path));
        plan.texts.splice(..0, files);
        if plan.is_empty() {
            let bundled = model.bundled_text(bundled::TEST_TEXT);
            plan.texts.extend(bundled.map(|path| file(&path)));
        }
        Ok(plan)
    }
}

/// Where registered texts and tasks lie.
pub(super) fn data_roots(data_dir: Option<PathBuf>) -> DataRoots {
    DataRoots {
        data_dir,
        bundled_dir: PathBuf::new(),
        // HF_HUB_OFFLINE is respected when files are fetched.
        hub: HubReach::Online,
    }
}

/// The texts that are not carried inside the program.
pub(super) fn registered() -> Vec<&'static str> {
    let corpora = Corpus::all()
        .iter()
        .filter(|corpus| corpus.home == Home::DataDir);
    corpora.map(|corpus| corpus.name).collect()
}

/// `name` or `name:shots`.
fn named(word: &str) -> anyhow::Result<Vec<TaskRef>> {
    let (name, shots) = match word.split_once(':') {
        Some((name, shots)) => match shots.parse() {
            Ok(shots) => (name, Some(shots)),
            Err(_) => bail!("invalid_request: {word:?}: {shots:?} is no number of worked examples"),
        },
        None => (word, None),
    };
    let Some(tasks) = Task::named(name) else {
        let known: Vec<&str> = Task::all().iter().map(|task| task.name).collect();
        bail!(
            "unknown_task: there is no task {name:?}; known are {}",
            known.join(", ")
        );
    };
    let with_shots = tasks.into_iter().map(|task| {
        let shots = shots.unwrap_or(task.shots[0]);
        if let Some(reason) = task.refusal() {
            bail!(
                "invalid_request: the task {} cannot be run: {reason}",
                task.name
            );
        }
        task.check_shots(shots)
            .map_err(|error| anyhow::anyhow!("invalid_request: {error}"))?;
        Ok(TaskRef {
            name: task.name.to_owned(),
            shots,
        })
    });
    with_shots.collect()
}

fn file(path: &Path) -> TextSource {
    TextSource {
        name: crate::cli::file_name(path),
        place: Place::File(path.to_path_buf()),
        excerpt: Excerpt::WHOLE,
    }
}
