//! One count over all measurements of a job, so that what is left can be foreseen.

use crate::domain::job::progress::Step;
use crate::engine::{Observer, PassProgress};
use crate::pipeline::Listener;

/// Counts token-blocks over all measurements.
pub(super) struct Tally<'a> {
    listener: &'a mut dyn Listener,
    done: u64,
    total: u64,
}

impl<'a> Tally<'a> {
    /// `total`: the weights of all parts together.
    pub(super) fn new(listener: &'a mut dyn Listener, total: u64) -> Self {
        Self {
            listener,
            done: 0,
            total,
        }
    }

    /// Runs one measurement that makes up `weight` of the whole.
    pub(super) fn part<R, E>(
        &mut self,
        name: String,
        weight: u64,
        work: impl FnOnce(&mut dyn Observer) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut part = Part {
            tally: self,
            name,
            weight,
        };
        let result = work(&mut part)?;
        self.done += weight;
        Ok(result)
    }
}

struct Part<'t, 'a> {
    tally: &'t mut Tally<'a>,
    name: String,
    weight: u64,
}

impl Observer for Part<'_, '_> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a weight is a weight"
    )]
    fn progress(&mut self, progress: PassProgress) {
        let share = progress.tokens as f64 / progress.total_tokens.max(1) as f64;
        let own = (share.min(1.0) * self.weight as f64) as u64;
        let (total, name) = (self.tally.total, self.name.clone());
        let finished = (self.tally.done + own).min(total);
        self.tally
            .listener
            .progress(Step::new(name, "tokens", finished, total));
    }

    fn should_stop(&self) -> bool {
        self.tally.listener.should_stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::progress::Phase;

    #[derive(Default)]
    struct Steps(Vec<(String, u64, u64)>);

    impl Listener for Steps {
        fn phase(&mut self, _phase: Phase) {}

        fn progress(&mut self, step: Step) {
            self.0.push((step.name, step.finished, step.total));
        }

        fn resumed(&mut self, _block: usize, _blocks: usize) {}
    }

    #[test]
    fn parts_add_up_whatever_they_count_themselves() {
        let half = PassProgress {
            blocks: 1,
            total_blocks: 2,
            tokens: 5,
            total_tokens: 10,
        };
        let mut steps = Steps::default();
        let mut tally = Tally::new(&mut steps, 400);
        for (name, weight) in [("a", 100), ("b", 300)] {
            let part = tally.part(name.to_owned(), weight, |observer| {
                observer.progress(half);
                Ok::<_, ()>(())
            });
            part.unwrap();
        }
        let expected = [("a".to_owned(), 50, 400), ("b".to_owned(), 250, 400)];
        assert_eq!(steps.0, expected);
    }
}
