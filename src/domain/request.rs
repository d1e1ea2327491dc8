//! The body of a submission, turned into a checked [`PruneSpec`] with every default filled in.
//!
//! All wrong fields are reported at once. A field that nobody knows is an error: a misspelt option that is
//! silently ignored costs hours of computing the wrong thing.

mod fields;
mod names;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::evaluation::{BosRule, EvaluationSpec, Guard};
use super::spec::{
    BUNDLED_MODEL, CalibrationSpec, DatasetRef, Metadata, Method, ModelRef, Pattern, PruneSpec,
};
use fields::{Fields, escaped, kind};

/// What a body may ask for.
pub mod limits {
    /// Most calibration windows.
    pub const N_SAMPLES: u64 = 4096;
    /// Shortest window: perplexity needs a token to predict.
    pub const MIN_SEQ_LEN: u64 = 2;
    /// Longest window.
    pub const MAX_SEQ_LEN: u64 = 131_072;
    /// Most texts to measure perplexity on.
    pub const PERPLEXITY_TEXTS: usize = 16;
    /// Characters of a job's name.
    pub const NAME_CHARS: usize = 200;
    /// Pairs of metadata.
    pub const METADATA_PAIRS: usize = 16;
    /// Characters of a metadata key.
    pub const METADATA_KEY_CHARS: usize = 64;
    /// Characters of a metadata value.
    pub const METADATA_VALUE_CHARS: usize = 512;
    /// Characters of a revision, a local model id, or a path.
    pub const PATH_CHARS: usize = 255;
}

/// The defaults that depend on what the server computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Calibration windows.
    pub n_samples: usize,
}

impl Defaults {
    /// The paper's recipe.
    pub const GPU: Self = Self { n_samples: 128 };
    /// An eighth of its windows, for a CPU computes that much longer.
    pub const CPU: Self = Self { n_samples: 16 };

    /// The paper's recipe where every device is a GPU.
    pub fn for_devices<S: AsRef<str>>(devices: &[S]) -> Self {
        if devices.iter().all(|device| device.as_ref() == "cpu") {
            Self::CPU
        } else {
            Self::GPU
        }
    }
}

/// One thing that is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where, as a JSON pointer.
    pub pointer: String,
    /// The kind of mistake: `required`, `unknown_field`, `wrong_type`, `out_of_range`, `invalid_format`,
    /// `unsupported` or `contradiction`.
    pub code: &'static str,
    /// What is wrong, with the facts.
    pub detail: String,
}

/// A checked submission.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRequest {
    /// The submitter's name for the job.
    pub name: Option<String>,
    /// The submitter's key-value pairs.
    pub metadata: Metadata,
    /// What to do.
    pub spec: PruneSpec,
}

impl JobRequest {
    /// Checks the whole body; the error is the list of all wrong fields, never empty.
    pub fn parse(body: &Value, defaults: Defaults) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let parsed = parse_body(body, defaults, &mut errors);
        match parsed {
            Some(request) if errors.is_empty() => Ok(request),
            _ => Err(errors),
        }
    }
}

/// `None` only where an error was pushed.
fn parse_body(
    body: &Value,
    defaults: Defaults,
    errors: &mut Vec<FieldError>,
) -> Option<JobRequest> {
    let mut root = Fields::of(body, String::new(), errors)?;
    let name = root.string("name").and_then(|name| {
        let checked = at_most(name, limits::NAME_CHARS);
        let name = root.checked("name", "out_of_range", checked)?;
        root.checked("name", "invalid_format", without_controls(name))
    });
    let metadata = metadata(&mut root);
    let model = root
        .required("model")
        .and_then(|value| names::model(&mut root, value));
    let method = method(&mut root);
    let pattern = pattern(&mut root);
    let sparsity = sparsity(&mut root, pattern);
    let is_bundled = matches!(&model, Some(ModelRef::Local { id }) if id == BUNDLED_MODEL);
    let calibration = calibration(&mut root, defaults, is_bundled);
    let evaluation = evaluation(&mut root, is_bundled);
    artifact(&mut root);
    root.finish();

    let spec = PruneSpec {
        model: model?,
        method: method?,
        sparsity: sparsity?,
        pattern: pattern?,
        calibration: calibration?,
        evaluation: evaluation?,
    };
    Some(JobRequest {
        name,
        metadata,
        spec,
    })
}

fn metadata(root: &mut Fields<'_, '_>) -> Metadata {
    let mut pairs = Metadata::new();
    let Some(value) = root.value("metadata") else {
        return pairs;
    };
    let Some(map) = value.as_object() else {
        root.error(
            "metadata",
            "wrong_type",
            format!("expected an object of strings, found {}", kind(value)),
        );
        return pairs;
    };
    if map.len() > limits::METADATA_PAIRS {
        let detail = format!(
            "has {} pairs, at most {} are allowed",
            map.len(),
            limits::METADATA_PAIRS
        );
        root.error("metadata", "out_of_range", detail);
    }
    for (key, value) in map {
        let path = format!("metadata/{}", escaped(key));
        if let Err(detail) = at_most(key, limits::METADATA_KEY_CHARS) {
            root.error(&path, "out_of_range", format!("the key {detail}"));
        }
        if let Err(detail) = without_controls(key.clone()) {
            root.error(&path, "invalid_format", format!("the key {detail}"));
        }
        let text = value
            .as_str()
            .ok_or_else(|| format!("expected a string, found {}", kind(value)));
        let Some(text) = root.checked(&path, "wrong_type", text) else {
            continue;
        };
        let text = root.checked(
            &path,
            "out_of_range",
            at_most(text, limits::METADATA_VALUE_CHARS),
        );
        let text =
            text.and_then(|text| root.checked(&path, "invalid_format", without_controls(text)));
        pairs.extend(text.map(|text| (key.clone(), text)));
    }
    pairs
}

fn at_most(text: &str, chars: usize) -> Result<String, String> {
    let count = text.chars().count();
    (count <= chars)
        .then(|| text.to_owned())
        .ok_or_else(|| format!("has {count} characters, at most {chars} are allowed"))
}

/// Lists and logs show these texts on one line.
fn without_controls(text: String) -> Result<String, String> {
    if text.contains(char::is_control) {
        return Err("has control characters, which are not allowed".to_owned());
    }
    Ok(text)
}

/// `"wanda"` or `{"type": "wanda"}`.
fn method(root: &mut Fields<'_, '_>) -> Option<Method> {
    let Some(value) = root.value("method") else {
        return Some(Method::Wanda);
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
        return Some(Pattern::Unstructured);
    }
    text.and_then(|text| root.checked("pattern", "invalid_format", text.parse()))
}

/// Required for unstructured patterns; for N:M it follows from the pattern and may only repeat it.
fn sparsity(root: &mut Fields<'_, '_>, pattern: Option<Pattern>) -> Option<f64> {
    let is_absent = root.is_absent("sparsity");
    let given = root.number("sparsity", 0.0..1.0);
    match pattern {
        Some(Pattern::KeptOfGroup { kept, group }) => {
            let implied = 1.0 - kept as f64 / group as f64;
            if given.is_some_and(|given| (given - implied).abs() > 1e-9) {
                let detail = format!(
                    "the pattern {kept}:{group} means a sparsity of {implied}; leave it out or say so"
                );
                root.error("sparsity", "contradiction", detail);
            }
            (given.is_some() || is_absent).then_some(implied)
        }
        Some(Pattern::Unstructured) if is_absent => {
            let detail = "`sparsity` is required for the pattern unstructured".to_owned();
            root.error("sparsity", "required", detail);
            None
        }
        Some(Pattern::Unstructured) | None => given,
    }
}

fn calibration(
    root: &mut Fields<'_, '_>,
    defaults: Defaults,
    is_bundled: bool,
) -> Option<CalibrationSpec> {
    let dataset = if is_bundled {
        DatasetRef::Demo
    } else {
        DatasetRef::C4
    };
    let default = CalibrationSpec {
        dataset,
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

fn evaluation(root: &mut Fields<'_, '_>, is_bundled: bool) -> Option<EvaluationSpec> {
    let text = if is_bundled {
        DatasetRef::Demo
    } else {
        DatasetRef::Wikitext2
    };
    let default = EvaluationSpec {
        perplexity: vec![text],
        seq_len: None,
        windows: None,
        tasks: Vec::new(),
        limit: None,
        bos: BosRule::default(),
        guard: Guard::default(),
    };
    let Some(value) = root.value("evaluation") else {
        return Some(default);
    };
    let mut inner = root.object("evaluation", value)?;
    let perplexity = match inner.array("perplexity") {
        Some(items) if items.len() > limits::PERPLEXITY_TEXTS => {
            let detail = format!(
                "has {} entries, at most {} are allowed",
                items.len(),
                limits::PERPLEXITY_TEXTS
            );
            inner.error("perplexity", "out_of_range", detail);
            Vec::new()
        }
        Some(items) => items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| names::text(&mut inner, i, item))
            .collect(),
        None => default.perplexity.clone(),
    };
    let seq_len = seq_len(&mut inner);
    let windows = inner
        .integer("windows", 1..=u64::from(u32::MAX))
        .map(to_usize);
    if inner.array("tasks").is_some_and(|tasks| !tasks.is_empty()) {
        let detail =
            "zero-shot tasks are not supported by this version; leave the list empty".to_owned();
        inner.error("tasks", "unsupported", detail);
    }
    inner.finish();
    Some(EvaluationSpec {
        perplexity,
        seq_len,
        windows,
        ..default
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

fn seq_len(fields: &mut Fields<'_, '_>) -> Option<usize> {
    fields
        .integer("seq_len", limits::MIN_SEQ_LEN..=limits::MAX_SEQ_LEN)
        .map(to_usize)
}

/// For numbers that a limit above keeps far below any `usize`.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
