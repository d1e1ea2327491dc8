//! What the hub said in the last seconds: who asks again is told the same.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::models::{NoRemoteModel, RemoteModel};

/// How long an answer is used.
const KEPT: Duration = Duration::from_secs(10);

/// The most answers that are kept.
const MOST: usize = 64;

/// A question about a model, as far as answers differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelQuestion {
    pub(super) id: String,
    pub(super) revision: String,
    pub(super) needs_tokens: bool,
}

/// What is said of the model.
pub(super) type Answer = Result<RemoteModel, NoRemoteModel>;

/// The latest questions, the oldest first.
#[derive(Debug, Default)]
pub(super) struct RecentAnswers(Mutex<VecDeque<Recent>>);

#[derive(Debug)]
struct Recent {
    since: Instant,
    question: ModelQuestion,
    answer: Arc<OnceCell<Answer>>,
}

impl RecentAnswers {
    /// The place of the answer, shared by all who ask the same meanwhile.
    pub(super) fn place(&self, now: Instant, question: &ModelQuestion) -> Arc<OnceCell<Answer>> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|known| now.saturating_duration_since(known.since) < KEPT);
        if let Some(known) = recent.iter().find(|known| known.question == *question) {
            return Arc::clone(&known.answer);
        }
        if recent.len() == MOST {
            recent.pop_front();
        }
        let answer = Arc::default();
        recent.push_back(Recent {
            since: now,
            question: question.clone(),
            answer: Arc::clone(&answer),
        });
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(revision: &str) -> ModelQuestion {
        ModelQuestion {
            id: "org/name".to_owned(),
            revision: revision.to_owned(),
            needs_tokens: true,
        }
    }

    #[test]
    fn an_answer_is_used_again_for_a_while_and_for_the_same_question_alone() {
        let (recent, began) = (RecentAnswers::default(), Instant::now());
        let first = recent.place(began, &question("main"));
        let later = |pause: Duration| recent.place(began + pause, &question("main"));
        let almost = later(KEPT.saturating_sub(Duration::from_millis(1)));
        assert!(Arc::ptr_eq(&first, &almost));
        let without = ModelQuestion {
            needs_tokens: false,
            ..question("main")
        };
        for other in [question("v1"), without] {
            assert!(!Arc::ptr_eq(&first, &recent.place(began, &other)));
        }
        assert!(!Arc::ptr_eq(&first, &later(KEPT)));
    }

    #[test]
    fn no_more_than_a_few_answers_are_kept() {
        let (recent, now) = (RecentAnswers::default(), Instant::now());
        let first = recent.place(now, &question("main"));
        for other in 0..MOST {
            recent.place(now, &question(&other.to_string()));
        }
        assert_eq!(recent.0.lock().unwrap().len(), MOST);
        assert!(!Arc::ptr_eq(&first, &recent.place(now, &question("main"))));
    }
}
