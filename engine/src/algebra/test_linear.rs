//! A linear with its calibration tokens, for the tests of methods and refinements.

use candle_core::{Device, Tensor};

use crate::algebra::squared_outputs;
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::mask::Mask;
use crate::method::{Chosen, MethodId};
use crate::model::{InputId, LinearSpec};
use crate::pattern::{Goal, Pattern, zeros_of};
use crate::statistic::{Gram, InputStatistics, Statistic};

pub(crate) struct TestLinear {
    pub(crate) seen: InputStatistics,
    pub(crate) linear: LinearSpec,
    pub(crate) values: Vec<f32>,
}

impl TestLinear {
    /// Tokens `[n, d_in]` and weights `[d_out, d_in]`.
    pub(crate) fn new(tokens: &[f32], values: &[f32], d_in: usize) -> Self {
        let wanted = [
            Statistic::SumOfSquares,
            Statistic::Gram,
            Statistic::WindowMoments,
        ];
        let mut seen = InputStatistics::collecting(&wanted, d_in, 1);
        let x = Tensor::from_slice(tokens, (tokens.len() / d_in, d_in), &Device::Cpu).unwrap();
        seen.add(&x).unwrap();
        seen.finish();
        let linear = LinearSpec {
            name: "linear".to_owned(),
            d_out: values.len() / d_in,
            d_in,
            has_bias: false,
            input: InputId(0),
        };
        Self {
            seen,
            linear,
            values: values.to_vec(),
        }
    }

    /// Neighbouring features are correlated, so that the choice of weights matters.
    pub(crate) fn random(d_out: usize, d_in: usize, n_tokens: usize, seed: u32) -> Self {
        let mut state = seed | 1;
        let mut random = |n: usize| -> Vec<f32> {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            };
            (0..n).map(next).collect()
        };
        let mut tokens = random(n_tokens * d_in);
        for token in tokens.chunks_exact_mut(d_in) {
            (1..d_in).for_each(|j| token[j] += 0.7 * token[j - 1]);
        }
        Self::new(&tokens, &random(d_out * d_in), d_in)
    }

    pub(crate) fn gram(&self) -> &Gram {
        self.seen.gram().unwrap()
    }

    pub(crate) fn try_prune(&self, method: &str, goal: Goal) -> Result<(Vec<f32>, Chosen)> {
        let method: MethodId = method.parse().unwrap();
        let mut weights = Weights::F32(self.values.clone());
        let chosen = method.prune(&mut weights, &self.linear, &self.seen, goal)?;
        chosen.mask.apply(&mut weights);
        Ok((weights.into_f32(), chosen))
    }

    pub(crate) fn prune(&self, method: &str, goal: Goal) -> (Vec<f32>, Chosen) {
        self.try_prune(method, goal).unwrap()
    }

    /// The squared output error.
    pub(crate) fn lost(&self, weights: &[f32]) -> f64 {
        let pairs = self.values.iter().zip(weights);
        let difference: Vec<f32> = pairs.map(|(dense, pruned)| dense - pruned).collect();
        squared_outputs(&difference, self.gram()).iter().sum()
    }

    /// Asserts that a mask holds what was asked for.
    pub(crate) fn check_mask(&self, mask: &Mask, goal: Goal) {
        let n = self.values.len();
        let zeros = match goal.pattern {
            Pattern::Unstructured => zeros_of(n, goal.sparsity),
            Pattern::KeptOfGroup { kept, group } => n / group * (group - kept),
        };
        assert_eq!(mask.count(), zeros as u64);
        if let Pattern::KeptOfGroup { kept, group } = goal.pattern {
            let flags = mask.kept(0, self.linear.d_out);
            for flags in flags.chunks_exact(group) {
                assert_eq!(flags.iter().filter(|&&flag| flag > 0.0).count(), kept);
            }
        }
    }
}

/// Half of the weights, or as many as the pattern says.
pub(crate) fn half(pattern: &str) -> Goal {
    goal(pattern, 0.5)
}

pub(crate) fn goal(pattern: &str, sparsity: f64) -> Goal {
    let pattern: Pattern = pattern.parse().unwrap();
    Goal::new(pattern, pattern.implied_sparsity().unwrap_or(sparsity))
}

/// The result on one thread, which that on three is equal to.
pub(crate) fn on_any_threads<T: PartialEq + std::fmt::Debug + Send>(
    work: impl Fn() -> T + Sync,
) -> T {
    let [one, three] = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(&work)
    });
    assert_eq!(one, three);
    one
}
