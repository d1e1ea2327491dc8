//! What a model made of single documents, by metric.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::LogLikelihood;
use crate::pipeline::PipelineError;
use crate::pipeline::text::ModelTokenizer;
use crate::tasks::{Choice, Item, Metric, MetricKind, Page, Prompt, Unit};

/// What a model made of one document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DocumentScore {
    /// Its row in the split, from 0.
    pub(super) doc_id: usize,
    /// Its part of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    /// The right choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    gold: Option<usize>,
    /// ln p of each choice, of the target, or of the whole text.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    lls: Vec<f64>,
    /// Whether it is right, by metric.
    #[serde(flatten)]
    right: BTreeMap<String, bool>,
    /// Words of a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<usize>,
    /// Bytes of a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    /// The text written after a prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    generated: Option<String>,
}

impl DocumentScore {
    /// Whether the document is right; `None` by a metric that does not say so.
    pub(super) fn is_right(&self, metric: &Metric) -> Option<bool> {
        self.right.get(metric.name).copied()
    }

    /// Negative log-likelihood of the document, in nats.
    pub(super) fn nats(&self) -> f64 {
        -self.lls.iter().sum::<f64>()
    }

    /// Length of the document.
    pub(super) fn length(&self, unit: Unit) -> usize {
        match unit {
            Unit::Document => 1,
            Unit::Word => self.words.unwrap_or_default(),
            Unit::Byte => self.bytes.unwrap_or_default(),
        }
    }
}

/// The verdict of every metric that has one.
fn by_metric(verdict: impl Fn(&MetricKind) -> Option<bool>) -> BTreeMap<String, bool> {
    let metrics = Metric::all().iter();
    metrics
        .filter_map(|metric| Some((metric.name.to_owned(), verdict(&metric.kind)?)))
        .collect()
}

/// The scores of documents from the log-likelihoods of their sequences.
pub(super) fn choices(items: &[Item], lls: &[LogLikelihood]) -> Vec<DocumentScore> {
    let mut rest = lls;
    let score = |item: &Item| {
        let (own, others) = rest.split_at(item.requests.len());
        rest = others;
        let lls: Vec<f64> = own.iter().map(|ll| ll.value).collect();
        let choice = Choice {
            item,
            lls: &lls,
            is_greedy: own.iter().all(|ll| ll.is_greedy),
        };
        let right = by_metric(|kind| match kind {
            MetricKind::Choice(is_right) => is_right(&choice),
            MetricKind::Answer(_) | MetricKind::Loss(..) => None,
        });
        DocumentScore {
            doc_id: item.doc_id,
            group: item.group.clone(),
            gold: item.gold,
            lls,
            right,
            ..DocumentScore::default()
        }
    };
    items.iter().map(score).collect()
}

/// The log-likelihoods of pages.
pub(super) fn pages(pages: &[(Page, usize)], lls: &[LogLikelihood]) -> Vec<DocumentScore> {
    let mut rest = lls;
    let score = |(page, windows): &(Page, usize)| {
        let (own, others) = rest.split_at(*windows);
        rest = others;
        DocumentScore {
            doc_id: page.doc_id,
            lls: vec![own.iter().map(|ll| ll.value).sum()],
            words: Some(page.words),
            bytes: Some(page.bytes),
            ..DocumentScore::default()
        }
    };
    pages.iter().map(score).collect()
}

/// The scores of the texts that were written after prompts.
pub(super) fn answers(
    prompts: &[Prompt],
    written: &[Vec<u32>],
    tokenizer: &ModelTokenizer,
) -> Result<Vec<DocumentScore>, PipelineError> {
    let score = |(prompt, tokens): (&Prompt, &Vec<u32>)| {
        let text = tokenizer.decode(tokens)?;
        let right = by_metric(|kind| match kind {
            MetricKind::Answer(is_right) => Some(is_right(prompt, &text)),
            MetricKind::Choice(_) | MetricKind::Loss(..) => None,
        });
        Ok(DocumentScore {
            doc_id: prompt.doc_id,
            right,
            generated: Some(prompt.answer(&text).to_owned()),
            ..DocumentScore::default()
        })
    };
    prompts.iter().zip(written).map(score).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_score_is_written_with_a_field_for_each_metric_and_read_again() {
        let written =
            json!({"doc_id": 3, "gold": 1, "lls": [-1.5, -0.25], "acc": true, "acc_norm": false});
        let score: DocumentScore = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(score.right.len(), 2);
        assert_eq!(serde_json::to_value(&score).unwrap(), written);
        let page = json!({"doc_id": 0, "lls": [-9.0], "words": 2, "bytes": 11});
        let score: DocumentScore = serde_json::from_value(page.clone()).unwrap();
        assert_eq!(score.length(Unit::Byte), 11);
        assert_eq!(serde_json::to_value(&score).unwrap(), page);
    }
}
