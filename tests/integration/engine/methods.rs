//! Further methods against results of their original implementations.

use std::path::{Path, PathBuf};

use secateur::engine::model::LinearSpec;
use secateur::engine::{
    Chosen, ComparisonGroup, Dsnot, Goal, InputStatistics, Method, MethodId, Pattern, Recipe,
    RefinementId, Result, Ria, Statistic, TokenWindows, Weights,
};

use crate::engine::reference::{
    Pruned, Tensors, assert_close, half, method, perplexity_of, prune_model, reference_dir, weights,
};

/// A tiny model with the results of all methods.
struct Golden {
    model: PathBuf,
    calibration: TokenWindows,
    evaluation: TokenWindows,
    tensors: Tensors,
    json: serde_json::Value,
}

impl Golden {
    fn each(check: impl Fn(&Self)) {
        for name in ["tiny-random", "tiny-trained"] {
            if let Some(dir) = reference_dir() {
                check(&Self::read(&dir, name));
            }
        }
    }

    fn read(dir: &Path, name: &str) -> Self {
        let model = dir.join(name);
        let json = std::fs::read(dir.join(format!("methods/{name}.json"))).unwrap();
        Self {
            calibration: Tensors::read(&model.join("calib_ids.safetensors")).windows("input_ids"),
            evaluation: Tensors::read(&model.join("eval.safetensors")).windows("eval_ids"),
            tensors: Tensors::read(&dir.join(format!("methods/{name}.safetensors"))),
            json: serde_json::from_slice(&json).unwrap(),
            model,
        }
    }

    fn prune(&self, recipe: impl Into<Recipe>, pattern: &str) -> Pruned {
        prune_model(&self.model, recipe, half(pattern), &self.calibration)
    }

    fn perplexity(&self, pruned: &Pruned) -> f64 {
        perplexity_of(pruned.dir.path(), &self.evaluation)
    }

    fn number(&self, pointer: &str) -> f64 {
        let number = self
            .json
            .pointer(pointer)
            .and_then(serde_json::Value::as_f64);
        number.unwrap_or_else(|| panic!("no number at {pointer}"))
    }

    /// Bits of a linear's mask that are not those of the original's `run`.
    fn differing(&self, run: &str, pruned: &Pruned, linear: &str) -> usize {
        let mask = self.tensors.bytes(&format!("{run}/mask/{linear}"));
        let actual = weights(pruned.dir.path(), linear);
        let pairs = actual.iter().zip(mask);
        pairs
            .filter(|(weight, bit)| (**weight == 0.0) != (**bit == 1))
            .count()
    }
}

/// RIA with the original's count of zeros per linear: all scores up to the one at `floor(n · sparsity)`.
#[derive(Debug)]
struct OriginalRia;

impl Method for OriginalRia {
    fn name(&self) -> &'static str {
        "original-ria"
    }

    fn doc(&self) -> &'static str {
        "RIA with one more zero per linear."
    }

    fn needs(&self) -> &'static [Statistic] {
        Ria.needs()
    }

    fn prune(
        &self,
        weights: &mut Weights,
        linear: &LinearSpec,
        seen: &InputStatistics,
        goal: Goal,
    ) -> Result<Chosen> {
        let one_more = match goal.pattern {
            Pattern::Unstructured => 1.5 / linear.weights() as f64,
            Pattern::KeptOfGroup { .. } => 0.0,
        };
        let goal = Goal {
            sparsity: goal.sparsity + one_more,
            ..goal
        };
        Ria.prune(weights, linear, seen, goal)
    }
}

#[test]
fn ria_gives_the_masks_of_the_original() {
    Golden::each(|golden| {
        // As the original does with `--per_outneuron`.
        let rows = Recipe {
            group: Some(ComparisonGroup::Row),
            ..method("ria").into()
        };
        for (run, recipe, pattern) in [
            ("ria-50", MethodId::new(&OriginalRia).into(), "unstructured"),
            ("ria-50-rows", rows, "unstructured"),
            ("ria-2of4", method("ria").into(), "2:4"),
        ] {
            let pruned = golden.prune(recipe, pattern);
            for linear in pruned.sums.keys() {
                let differing = golden.differing(run, &pruned, linear);
                assert_eq!(differing, 0, "{run}: bits of the mask of {linear}");
            }
            let expected = golden.number(&format!("/runs/{run}/perplexity"));
            assert_close(golden.perplexity(&pruned), expected, 1e-4, run);
        }
    });
}

/// Wanda's masks, then the kept weights fitted.
#[test]
fn refitted_weights_have_the_errors_of_the_original() {
    Golden::each(|golden| {
        for (run, pattern) in [("pcg-wanda-50", "unstructured"), ("pcg-wanda-2of4", "2:4")] {
            let recipe = Recipe {
                refit: true,
                ..method("wanda").into()
            };
            let pruned = golden.prune(recipe, pattern);
            for (linear, outcome) in &pruned.outcomes {
                // In block 0 the masks are the same; the original stops after ten steps.
                if linear.starts_with("model.layers.0.") {
                    assert_eq!(golden.differing(run, &pruned, linear), 0, "{run}: {linear}");
                    let of = |kind: &str| golden.number(&format!("/runs/{run}/{kind}/{linear}"));
                    let before = of("layer_error_mask_only");
                    assert_close(
                        outcome.layer_error_before_refit.unwrap(),
                        before,
                        1e-4,
                        linear,
                    );
                    let after = outcome.layer_error.unwrap() / of("layer_error");
                    assert!((0.75..1.0015).contains(&after), "{run}: {linear}: {after}");
                }
            }
            let extra =
                format!("/extra/{run} with the mask recomputed in each block (own statistics)");
            let mean = pruned.mean_error();
            let mean = mean / golden.number(&format!("{extra}/mean_error"));
            assert!((0.95..1.0015).contains(&mean), "{run}: mean error {mean}");
            let expected = golden.number(&format!("{extra}/perplexity"));
            assert_close(golden.perplexity(&pruned), expected, 0.01, run);
        }
    });
}

/// Exact in groups; the original zeroes one weight more per block of columns where there are none.
#[test]
fn sparsegpt_gives_the_weights_of_the_original() {
    Golden::each(|golden| {
        let run = "sparsegpt-2of4";
        let pruned = golden.prune(method("sparsegpt"), "2:4");
        for linear in pruned.outcomes.keys() {
            assert_eq!(golden.differing(run, &pruned, linear), 0, "{run}: {linear}");
            let expected = golden.tensors.f32(&format!("{run}/weight/{linear}"));
            let actual = weights(pruned.dir.path(), linear);
            for (actual, expected) in actual.iter().zip(expected) {
                assert!((actual - expected).abs() <= 3e-5, "{actual}, {expected}");
            }
        }
        let expected = golden.number(&format!("/runs/{run}/perplexity"));
        assert_close(golden.perplexity(&pruned), expected, 1e-4, run);

        let run = "sparsegpt-50";
        let pruned = golden.prune(method("sparsegpt"), "unstructured");
        for (linear, outcome) in &pruned.outcomes {
            let expected = golden.number(&format!("/runs/{run}/layer_error/{linear}"));
            assert_close(outcome.layer_error.unwrap(), expected, 0.02, linear);
        }
        let expected = golden.number(&format!("/runs/{run}/perplexity"));
        assert_close(golden.perplexity(&pruned), expected, 0.01, run);
    });
}

/// With eight cycles: with more the original runs out of candidates, and its count drifts.
static DSNOT: Dsnot = Dsnot { cycles: 8 };

#[test]
fn dsnot_gives_the_masks_and_the_errors_of_the_original() {
    Golden::each(|golden| {
        for (run, pattern) in [("dsnot-50-all", "unstructured"), ("dsnot-2of4-all", "2:4")] {
            let recipe = Recipe {
                refine: Some(RefinementId::new(&DSNOT)),
                ..method("wanda").into()
            };
            let pruned = golden.prune(recipe, pattern);
            for (linear, outcome) in &pruned.outcomes {
                assert_eq!(golden.differing(run, &pruned, linear), 0, "{run}: {linear}");
                let expected = golden.number(&format!("/runs/{run}/layer_error/{linear}"));
                assert_close(outcome.layer_error.unwrap(), expected, 1e-3, linear);
            }
            let expected = golden.number(&format!("/runs/{run}/perplexity"));
            assert_close(golden.perplexity(&pruned), expected, 1e-4, run);
        }
    });
}

/// Its support is not reproducible to the bit, even by the original: the errors are. More steps of the fit at the end
/// make ours a little lower.
#[test]
fn alps_reaches_the_errors_of_the_original() {
    Golden::each(|golden| {
        for (run, pattern) in [("alps-50", "unstructured"), ("alps-2of4", "2:4")] {
            let pruned = golden.prune(method("alps"), pattern);
            for (linear, outcome) in &pruned.outcomes {
                let expected = golden.number(&format!("/runs/{run}/layer_error/{linear}"));
                let ratio = outcome.layer_error.unwrap() / expected;
                assert!((0.9..1.02).contains(&ratio), "{run}: {linear}: {ratio}");
            }
            let expected = golden.number(&format!("/runs/{run}/mean_layer_error"));
            let mean = pruned.mean_error() / expected;
            assert!((0.95..1.002).contains(&mean), "{run}: mean error {mean}");
        }
    });
}
