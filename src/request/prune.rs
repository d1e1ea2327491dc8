//! The fields that only a job of the type `prune` has.

use super::fields::Fields;
use super::{Defaults, evaluation, limits, names, seq_len, to_usize};
use crate::corpora::{C4, DEMO};
use crate::domain::spec::{BUNDLED_MODEL, CalibrationSpec, ModelRef, PruneSpec};
use crate::engine::{MethodId, Pattern};

/// `None` only where an error was pushed.
pub(super) fn spec(root: &mut Fields<'_, '_>, defaults: Defaults) -> Option<PruneSpec> {
    let model = root
        .required("model")
        .and_then(|value| names::model(root, "model", value));
    if let Some(ModelRef::Job { .. }) = &model {
        let detail = "the artifact of a job can be evaluated, not pruned".to_owned();
        root.error("model/source", "unsupported", detail);
    }
    let method = method(root);
    let pattern = pattern(root);
    let sparsity = sparsity(root, pattern);
    let is_bundled = is_bundled(model.as_ref());
    let calibration = calibration(root, defaults, is_bundled);
    let evaluation = evaluation::spec(root, is_bundled);
    artifact(root);
    Some(PruneSpec {
        model: model?,
        method: method?,
        sparsity: sparsity?,
        pattern: pattern?,
        calibration: calibration?,
        evaluation: evaluation?,
    })
}

/// The bundled model brings its own text.
pub(super) fn is_bundled(model: Option<&ModelRef>) -> bool {
    matches!(model, Some(ModelRef::Local { id }) if id == BUNDLED_MODEL)
}

/// A name, or `{"type": NAME}`.
fn method(root: &mut Fields<'_, '_>) -> Option<MethodId> {
    let Some(value) = root.value("method") else {
        return Some(MethodId::default());
    };
    if let Some(text) = value.as_str() {
        return root.checked("method", "unsupported", text.parse());
    }
    let mut inner = root.object("method", value)?;
    inner.required("type");
    let method = inner
        .string("type")
        .and_then(|text| inner.checked("type", "unsupported", text.parse()));
    inner.finish();
    method
}

fn pattern(root: &mut Fields<'_, '_>) -> Option<Pattern> {
    let is_absent = root.is_absent("pattern");
    let text = root.string("pattern");
    if is_absent {
        return Some(Pattern::default());
    }
    text.and_then(|text| root.checked("pattern", "invalid_format", text.parse()))
}

/// Required for unstructured patterns; for N:M it follows from the pattern and may only repeat it.
fn sparsity(root: &mut Fields<'_, '_>, pattern: Option<Pattern>) -> Option<f64> {
    let is_absent = root.is_absent("sparsity");
    let given = root.number("sparsity", 0.0..1.0);
    let Some(pattern) = pattern else { return given };
    match pattern.implied_sparsity() {
        Some(implied) => {
            if given.is_some_and(|given| (given - implied).abs() > 1e-9) {
                let detail = format!(
                    "the pattern {pattern} means a sparsity of {implied}; leave it out or say so"
                );
                root.error("sparsity", "contradiction", detail);
            }
            (given.is_some() || is_absent).then_some(implied)
        }
        None if is_absent => {
            let detail = format!("`sparsity` is required for the pattern {pattern}");
            root.error("sparsity", "required", detail);
            None
        }
        None => given,
    }
}

fn calibration(
    root: &mut Fields<'_, '_>,
    defaults: Defaults,
    is_bundled: bool,
) -> Option<CalibrationSpec> {
    let corpus = if is_bundled { &DEMO } else { &C4 };
    let default = CalibrationSpec {
        dataset: corpus.into(),
        n_samples: defaults.n_samples,
        seq_len: None,
        seed: 0,
    };
    let Some(value) = root.value("calibration") else {
        return Some(default);
    };
    let mut inner = root.object("calibration", value)?;
    let is_default = inner.value("dataset").is_none() && inner.is_absent("path");
    let dataset = if is_default {
        Some(default.dataset)
    } else {
        names::dataset(&mut inner)
    };
    let n_samples = inner
        .integer("n_samples", 1..=limits::N_SAMPLES)
        .map_or(default.n_samples, to_usize);
    let seq_len = seq_len(&mut inner).or(default.seq_len);
    let seed = inner.integer("seed", 0..=u64::MAX).unwrap_or(default.seed);
    inner.finish();
    Some(CalibrationSpec {
        dataset: dataset?,
        n_samples,
        seq_len,
        seed,
    })
}

/// There is one format so far; a body that asks for another one is refused.
fn artifact(root: &mut Fields<'_, '_>) {
    let Some(value) = root.value("artifact") else {
        return;
    };
    let Some(mut inner) = root.object("artifact", value) else {
        return;
    };
    if inner
        .array("formats")
        .is_some_and(|formats| formats.len() != 1 || formats[0] != "dense")
    {
        inner.error(
            "formats",
            "unsupported",
            "the only artifact format is [\"dense\"]".to_owned(),
        );
    }
    inner.finish();
}
