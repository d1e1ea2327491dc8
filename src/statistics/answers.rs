//! Right and wrong answers, of one model and of two.

use std::collections::BTreeMap;

use super::estimate;
use super::intervals::mcnemar;
use super::intervals::score_interval::{Changes, score_interval};
use super::scored::Scored;
use crate::domain::report::protocol::ProtocolMismatch;
use crate::domain::report::results::{Difference, Estimate, Flips, MetricResult};

/// How many of a task's documents one model answered right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    right: usize,
    n: usize,
}

impl Answers {
    /// Counts the right ones.
    pub fn count(is_right: &[bool]) -> Self {
        Self {
            right: is_right.iter().filter(|&&is_right| is_right).count(),
            n: is_right.len(),
        }
    }

    /// Accuracy; `None` without documents.
    pub fn estimate(self) -> Option<Estimate> {
        estimate::proportion(self.right, self.n)
    }

    /// The accuracy as the metric `name` of a model that is compared with none.
    pub fn metric(self, name: &str) -> MetricResult {
        MetricResult {
            metric: name.to_owned(),
            higher_is_better: true,
            before: None,
            after: self.estimate(),
            difference: None,
        }
    }
}

/// How two models answered the same documents of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairedAnswers {
    both_right: usize,
    changes: Changes,
}

impl PairedAnswers {
    /// Pairs the answers document by document; refused unless both were scored under one protocol.
    pub fn pair(
        before: Scored<'_, bool>,
        after: Scored<'_, bool>,
    ) -> Result<Self, ProtocolMismatch> {
        let mut paired = Self::default();
        for (before, after) in before.pairs(&after)? {
            paired.add(*before, *after);
        }
        Ok(paired)
    }

    /// The same for each part of a task; `parts` names the part of each document.
    pub fn pair_by_part<'p>(
        before: Scored<'_, bool>,
        after: Scored<'_, bool>,
        parts: &[&'p str],
    ) -> Result<BTreeMap<&'p str, Self>, ProtocolMismatch> {
        let mut paired = BTreeMap::<&str, Self>::new();
        for ((before, after), part) in before.pairs(&after)?.zip(parts) {
            paired.entry(part).or_default().add(*before, *after);
        }
        Ok(paired)
    }

    fn add(&mut self, before: bool, after: bool) {
        self.changes.n += 1;
        match (before, after) {
            (true, true) => self.both_right += 1,
            (true, false) => self.changes.lost += 1,
            (false, true) => self.changes.gained += 1,
            (false, false) => {}
        }
    }

    pub(super) fn changes(self) -> Changes {
        self.changes
    }

    /// The answers of the model before.
    pub fn before(self) -> Answers {
        Answers {
            right: self.both_right + self.changes.lost,
            n: self.changes.n,
        }
    }

    /// The answers of the model after.
    pub fn after(self) -> Answers {
        Answers {
            right: self.both_right + self.changes.gained,
            n: self.changes.n,
        }
    }

    /// Documents that changed sides.
    pub fn flips(self) -> Flips {
        Flips {
            right_to_wrong: self.changes.lost,
            wrong_to_right: self.changes.gained,
            n: self.changes.n,
        }
    }

    /// The difference of accuracies with Tango's score interval and the p-value of McNemar's exact test; `None` without
    /// documents.
    ///
    /// The interval is asymptotic and the test exact, so that close to p = 0.05 they may disagree; the test is the more
    /// cautious one.
    pub fn difference(self) -> Option<Difference> {
        if self.changes.n == 0 {
            return None;
        }
        let (value, low, high) = score_interval(&[self.changes]);
        Some(Difference {
            value,
            low,
            high,
            method: "score".to_owned(),
            p_value: Some(mcnemar::exact_p(self.changes.gained, self.changes.lost)),
        })
    }

    /// Both accuracies and their difference as the metric `name`.
    pub fn metric(self, name: &str) -> MetricResult {
        MetricResult {
            before: self.before().estimate(),
            difference: self.difference(),
            ..self.after().metric(name)
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these numbers are exact")]
mod tests {
    use super::super::fixture::protocol;
    use super::*;

    #[test]
    fn answers_are_paired_document_by_document() {
        let protocol = protocol("boolq", 5);
        let scored = |scores| Scored {
            protocol: &protocol,
            scores,
        };
        let paired = PairedAnswers::pair(
            scored(&[true, true, false, true, false]),
            scored(&[true, false, true, false, false]),
        )
        .unwrap();
        let flips = paired.flips();
        assert_eq!(
            (flips.right_to_wrong, flips.wrong_to_right, flips.n),
            (2, 1, 5)
        );
        let metric = paired.metric("acc");
        assert_eq!(metric.before.unwrap().value, 0.6);
        assert_eq!(metric.after.unwrap().value, 0.4);
        let difference = metric.difference.unwrap();
        assert!((difference.value + 0.2).abs() < 1e-15);
        // 1 of 3 changes: 2 (1 + 3) / 2³ = 1.
        assert_eq!(
            (difference.method.as_str(), difference.p_value),
            ("score", Some(1.0))
        );
    }

    #[test]
    fn answers_of_different_protocols_are_never_put_in_one_difference() {
        let (a, b) = (protocol("boolq", 2), protocol("rte", 2));
        let before = Scored {
            protocol: &a,
            scores: &[true, false],
        };
        let after = Scored {
            protocol: &b,
            scores: &[true, false],
        };
        let message = PairedAnswers::pair(before, after).unwrap_err().to_string();
        assert_eq!(
            message,
            "results of different protocols are not compared: task is boolq and rte"
        );
    }

    #[test]
    fn missing_scores_are_refused_and_not_cut_off() {
        let protocol = protocol("boolq", 2);
        let before = Scored {
            protocol: &protocol,
            scores: &[true, false],
        };
        let after = Scored {
            protocol: &protocol,
            scores: &[true],
        };
        let message = PairedAnswers::pair(before, after).unwrap_err().to_string();
        assert!(message.contains("n is 2, scores are 2 and 1"), "{message}");
    }

    #[test]
    fn no_documents_have_no_numbers() {
        let protocol = protocol("boolq", 0);
        let none = Scored {
            protocol: &protocol,
            scores: &[],
        };
        let metric = PairedAnswers::pair(none, none).unwrap().metric("acc");
        assert_eq!(
            (metric.before, metric.after, metric.difference),
            (None, None, None)
        );
    }
}
