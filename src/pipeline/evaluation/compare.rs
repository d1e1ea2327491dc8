//! Compares the scores of two models: means, paired differences, warnings; or reports those of one.

use super::measure::{Measured, ModelScores, TextScore};
use super::prepare::{Prepared, PreparedText};
use super::score::DocumentScore;
use super::task::PreparedTask;
use crate::domain::ErrorCode;
use crate::domain::report::protocol::ProtocolMismatch;
use crate::domain::report::results::{
    Continuation, GenerationResult, MeanResult, MetricResult, PerplexityResult, Results,
    SubjectResult, TaskResult, Warning, WarningCode,
};
use crate::domain::spec::Guard;
use crate::pipeline::PipelineError;
use crate::statistics::guard;
use crate::statistics::repetition;
use crate::statistics::{
    Answers, Loss, PairedAnswers, PairedLosses, Scored, divergence, losses_estimate, mean_of_one,
    mean_of_pairs,
};
use crate::tasks::{ACC, Metric, MetricKind, Scale, Unit};

/// Everything that is reported of `measured`.
pub(super) fn compare(
    prepared: &Prepared,
    measured: &Measured,
    guard: &Guard,
) -> Result<Results, PipelineError> {
    let texts = prepared.texts.iter().zip(&measured.texts);
    let pairs: Vec<Pair<'_>> = prepared
        .tasks
        .iter()
        .enumerate()
        .map(|(index, task)| Pair {
            task,
            before: measured.before.as_ref().map(|scores| &*scores.tasks[index]),
            after: &measured.after.tasks[index],
        })
        .collect();
    let mut results = Results {
        perplexity: texts.map(|(text, score)| perplexity(text, score)).collect(),
        tasks: pairs.iter().map(Pair::result).collect::<Result<_, _>>()?,
        mean: mean(&pairs)?,
        generations: generations(prepared, measured)?,
        warnings: Vec::new(),
    };
    results.warnings = guard::warnings(&results, guard);
    results.warnings.extend(truncated(&prepared.tasks));
    Ok(results)
}

fn perplexity(text: &PreparedText, score: &TextScore) -> PerplexityResult {
    let divergence = score
        .divergence
        .as_ref()
        .and_then(|measured| divergence(&measured.window_mean_kl, measured.top1_agreement));
    PerplexityResult::new(
        text.protocol.clone(),
        score.before,
        Some(score.after),
        divergence,
    )
}

/// The scores of one task, of one model or of two.
#[derive(Clone, Copy)]
struct Pair<'a> {
    task: &'a PreparedTask,
    before: Option<&'a [DocumentScore]>,
    after: &'a [DocumentScore],
}

impl Pair<'_> {
    fn result(&self) -> Result<TaskResult, PipelineError> {
        let mut metrics = Vec::new();
        for &metric in self.task.task.metrics {
            metrics.extend(self.metric(metric)?);
        }
        let (subjects, mean_over_subjects) = self.subjects()?;
        metrics.extend(mean_over_subjects);
        let reported = self.task.task.metrics.iter();
        let main = reported.copied().find(|metric| metric.higher_is_better());
        let flips = match main {
            Some(metric) => self.paired(metric)?.map(PairedAnswers::flips),
            None => None,
        };
        Ok(TaskResult {
            protocol: self.task.protocol.clone(),
            metrics,
            flips,
            subjects,
        })
    }

    fn metric(&self, metric: &Metric) -> Result<Option<MetricResult>, PipelineError> {
        match metric.kind {
            MetricKind::Choice(_) | MetricKind::Answer(_) => Ok(match self.paired(metric)? {
                Some(paired) => Some(paired.metric(metric.name)),
                None => answers(self.after, metric).map(|after| after.metric(metric.name)),
            }),
            MetricKind::Loss(unit, scale) => self.loss(metric, unit, scale).map(Some),
        }
    }

    fn loss(
        &self,
        metric: &Metric,
        unit: Unit,
        scale: Scale,
    ) -> Result<MetricResult, PipelineError> {
        let before = self.before.map(|scores| losses(scores, unit));
        let after = losses(self.after, unit);
        let difference = match &before {
            Some(before) => {
                let paired = PairedLosses::pair(self.scored(before), self.scored(&after));
                paired.map_err(refused)?.difference(scale)
            }
            None => None,
        };
        Ok(MetricResult {
            metric: metric.name.to_owned(),
            higher_is_better: metric.higher_is_better(),
            before: before.and_then(|before| losses_estimate(&before, scale)),
            after: losses_estimate(&after, scale),
            difference,
        })
    }

    fn scored<'s, T>(&'s self, scores: &'s [T]) -> Scored<'s, T> {
        Scored {
            protocol: &self.task.protocol,
            scores,
        }
    }

    /// Right and wrong before and after; `None` where there is one model, or the metric is not of this task.
    fn paired(&self, metric: &Metric) -> Result<Option<PairedAnswers>, PipelineError> {
        let before = self.before.and_then(|scores| right(scores, metric));
        let Some((before, after)) = before.zip(right(self.after, metric)) else {
            return Ok(None);
        };
        let paired = PairedAnswers::pair(self.scored(&before), self.scored(&after));
        Ok(Some(paired.map_err(refused)?))
    }

    /// The part of each document, and whether it is right; `None` for a task without parts.
    fn parts(scores: &[DocumentScore]) -> Option<(Vec<&str>, Vec<bool>)> {
        let parts: Option<Vec<&str>> = scores.iter().map(|score| score.group.as_deref()).collect();
        parts.zip(right(scores, &ACC))
    }

    /// The accuracies of the task's parts, and the unweighted mean over them; the accuracy itself weighs each part by its
    /// documents.
    fn subjects(&self) -> Result<(Vec<SubjectResult>, Option<MetricResult>), PipelineError> {
        let Some((parts, after)) = Self::parts(self.after) else {
            return Ok((Vec::new(), None));
        };
        let before = self.before.and_then(|scores| right(scores, &ACC));
        // A model that is compared with none is paired with itself, and the half that says nothing left out.
        let is_pair = before.is_some();
        let before = before.unwrap_or_else(|| after.clone());
        let paired = PairedAnswers::pair_by_part(self.scored(&before), self.scored(&after), &parts)
            .map_err(refused)?;
        let subjects = paired.iter().map(|(subject, paired)| SubjectResult {
            subject: (*subject).to_owned(),
            n: paired.flips().n,
            before: paired.before().estimate().filter(|_| is_pair),
            after: paired.after().estimate(),
        });
        let subjects = subjects.collect();
        let paired: Vec<(&str, PairedAnswers)> = paired.into_iter().collect();
        let mean = mean_of_pairs("acc_macro", &paired).map(|mean| MetricResult {
            metric: mean.metric,
            higher_is_better: true,
            before: mean.before.filter(|_| is_pair),
            after: mean.after,
            difference: mean.difference.filter(|_| is_pair),
        });
        Ok((subjects, mean))
    }
}

/// Over the tasks that have an accuracy.
fn mean(pairs: &[Pair<'_>]) -> Result<Option<MeanResult>, PipelineError> {
    let metric = &ACC;
    let mut paired = Vec::new();
    let mut single = Vec::new();
    for pair in pairs {
        let name = pair.task.task.name;
        paired.extend(pair.paired(metric)?.map(|answers| (name, answers)));
        single.extend(answers(pair.after, metric).map(|answers| (name, answers)));
    }
    Ok(if paired.is_empty() {
        mean_of_one(metric.name, &single)
    } else {
        mean_of_pairs(metric.name, &paired)
    })
}

/// Right or wrong, document by document; `None` if the task does not say so by this metric.
fn right(scores: &[DocumentScore], metric: &Metric) -> Option<Vec<bool>> {
    scores.iter().map(|score| score.is_right(metric)).collect()
}

fn answers(scores: &[DocumentScore], metric: &Metric) -> Option<Answers> {
    right(scores, metric).map(|right| Answers::count(&right))
}

fn losses(scores: &[DocumentScore], unit: Unit) -> Vec<Loss> {
    let loss = |score: &DocumentScore| Loss {
        nats: score.nats(),
        units: score.length(unit) as f64,
    };
    scores.iter().map(loss).collect()
}

fn generations(
    prepared: &Prepared,
    measured: &Measured,
) -> Result<Vec<GenerationResult>, PipelineError> {
    let Some(tokenizer) = &prepared.tokenizer else {
        return Ok(Vec::new());
    };
    let written = |scores: &ModelScores, index: usize| {
        let tokens = &scores.written[index];
        Ok::<_, PipelineError>(Continuation {
            text: tokenizer.decode(tokens)?,
            repetition: repetition(tokens),
        })
    };
    let were_continued = measured.after.written.len();
    let prompts = prepared.prompts.iter().take(were_continued);
    let prompts = prompts.enumerate().map(|(index, prompt)| {
        let before = measured
            .before
            .as_ref()
            .map(|scores| written(scores, index));
        Ok(GenerationResult {
            prompt: prompt.text.to_owned(),
            before: before.transpose()?,
            after: Some(written(&measured.after, index)?),
        })
    });
    prompts.collect()
}

/// Warnings for documents that lost their beginning, as the harness scores those that do not fit the model.
fn truncated(tasks: &[PreparedTask]) -> impl Iterator<Item = Warning> {
    tasks.iter().filter(|task| task.truncated > 0).map(|task| {
        let (name, n, length) = (
            task.task.name,
            task.work.len(),
            task.protocol.fields().max_length,
        );
        Warning {
            code: WarningCode::TruncatedInputs,
            subject: name.to_owned(),
            value: Some(task.truncated as f64),
            threshold: 0.0,
            message: format!(
                "{} of {n} documents of {name} are longer than the model's context of {length} tokens and lost their \
                 beginning",
                task.truncated
            ),
        }
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "for `map_err`, which gives the error away"
)]
fn refused(mismatch: ProtocolMismatch) -> PipelineError {
    PipelineError::refused(ErrorCode::BaselineMismatch, mismatch.to_string())
}
