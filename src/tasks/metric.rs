//! Every metric of tasks, one row each. To add one, write its row and name it in [`METRICS`].

use std::fmt;

use super::item::{Item, Prompt};
use super::scale::Scale;
use super::score::{acc, acc_norm};

/// A number that a task reports over its documents.
#[derive(Debug)]
pub struct Metric {
    /// Its name in results.
    pub name: &'static str,
    /// How it is computed.
    pub kind: MetricKind,
}

/// How a metric is computed.
#[derive(Debug)]
pub enum MetricKind {
    /// Fraction of documents with the right choice; `None` for documents that the metric is not defined for.
    Choice(fn(&Choice<'_>) -> Option<bool>),
    /// Fraction of documents with the right written answer.
    Answer(fn(&Prompt, &str) -> bool),
    /// Loss per unit of text, Σ −ln p / Σ units, on a scale.
    Loss(Unit, Scale),
}

/// Log-likelihoods of the requests of a document.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The document.
    pub item: &'a Item,
    /// ln p of each request's continuation.
    pub lls: &'a [f64],
    /// Whether every continuation is the likeliest one, token by token.
    pub is_greedy: bool,
}

/// The unit that a loss is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A document.
    Document,
    /// A word of a page.
    Word,
    /// A byte of a page.
    Byte,
}

/// Every metric.
const METRICS: [&Metric; 8] = [
    &ACC,
    &ACC_NORM,
    &PERPLEXITY,
    &WORD_PERPLEXITY,
    &BYTE_PERPLEXITY,
    &BITS_PER_BYTE,
    &EXACT_MATCH_STRICT,
    &EXACT_MATCH_FLEXIBLE,
];

/// Whether the likeliest choice is the right one, or a target the likeliest text, see [`acc`].
pub static ACC: Metric = Metric {
    name: "acc",
    kind: MetricKind::Choice(|choice| {
        let by_choice = choice.item.gold.map(|gold| acc(choice.lls, gold));
        Some(by_choice.unwrap_or(choice.is_greedy))
    }),
};

/// The same with log-likelihoods by character, see [`acc_norm`].
pub(super) static ACC_NORM: Metric = Metric {
    name: "acc_norm",
    kind: MetricKind::Choice(|choice| {
        let gold = choice.item.gold?;
        Some(acc_norm(choice.lls, &choice.item.choice_chars, gold))
    }),
};

/// `exp(-mean log-likelihood)` of a target, over documents.
pub(super) static PERPLEXITY: Metric = Metric {
    name: "perplexity",
    kind: MetricKind::Loss(Unit::Document, Scale::Perplexity),
};

/// `exp(-sum of log-likelihoods / sum of words)` over pages.
pub(super) static WORD_PERPLEXITY: Metric = Metric {
    name: "word_perplexity",
    kind: MetricKind::Loss(Unit::Word, Scale::Perplexity),
};

/// `exp(-sum of log-likelihoods / sum of bytes)` over pages.
pub(super) static BYTE_PERPLEXITY: Metric = Metric {
    name: "byte_perplexity",
    kind: MetricKind::Loss(Unit::Byte, Scale::Perplexity),
};

/// The base-2 logarithm of the perplexity by byte.
pub(super) static BITS_PER_BYTE: Metric = Metric {
    name: "bits_per_byte",
    kind: MetricKind::Loss(Unit::Byte, Scale::Bits),
};

/// Whether the answer in the form of the examples is the right one.
pub(super) static EXACT_MATCH_STRICT: Metric = Metric {
    name: "exact_match_strict",
    kind: MetricKind::Answer(Prompt::is_strict_match),
};

/// Whether the last number of the answer is the right one.
pub(super) static EXACT_MATCH_FLEXIBLE: Metric = Metric {
    name: "exact_match_flexible",
    kind: MetricKind::Answer(Prompt::is_flexible_match),
};

impl Metric {
    /// Every metric.
    pub const fn all() -> &'static [&'static Self] {
        &METRICS
    }

    /// Whether a better model has more of it: fractions of right documents do, losses don't.
    pub const fn higher_is_better(&self) -> bool {
        match self.kind {
            MetricKind::Choice(_) | MetricKind::Answer(_) => true,
            MetricKind::Loss(..) => false,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tasks::Task;

    #[test]
    fn every_metric_of_a_task_is_in_the_table_once() {
        let names: BTreeSet<&str> = Metric::all().iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), Metric::all().len());
        let reported = Task::all().iter().flat_map(|task| task.metrics);
        for metric in reported {
            assert!(names.contains(metric.name), "{metric}");
        }
    }
}
