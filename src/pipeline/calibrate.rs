//! Calibration windows, drawn as the paper's code draws them.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::PipelineError;
use super::plan::{CalibrationPlan, TextSource, window_len};
use super::text::{ModelTokenizer, Text};
use crate::domain::ErrorCode;
use crate::domain::report::manifest::Calibration;
use crate::engine::{ModelPlan, TokenWindows};
use crate::tasks::PythonRandom;

/// The windows and what the manifest says of them.
pub(super) struct CalibrationWindows {
    pub(super) windows: TokenWindows,
    pub(super) record: Calibration,
}

/// Reads or draws the windows of a plan, from a text whose files are on this machine.
pub(super) fn windows(
    plan: &CalibrationPlan,
    text_files: &[PathBuf],
    model_dir: &Path,
    model_plan: &ModelPlan,
) -> Result<CalibrationWindows, PipelineError> {
    match plan {
        CalibrationPlan::Given(path) => given(path, model_plan),
        CalibrationPlan::Drawn {
            text,
            n_samples,
            seq_len,
            seed,
        } => {
            let draw = Draw {
                n_samples: *n_samples,
                seq_len: window_len(*seq_len, model_plan)?,
                seed: *seed,
                tokenizer: ModelTokenizer::load(model_dir, model_plan.vocab)?,
            };
            draw.windows(text, text_files)
        }
    }
}

fn given(path: &Path, model_plan: &ModelPlan) -> Result<CalibrationWindows, PipelineError> {
    let windows = TokenWindows::read(path)?;
    window_len(Some(windows.seq_len()), model_plan)?;
    let dataset = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let record = record(&windows, dataset, "given", None, None);
    Ok(CalibrationWindows { windows, record })
}

/// A draw of windows for one tokenizer.
struct Draw {
    n_samples: usize,
    seq_len: usize,
    seed: u64,
    tokenizer: ModelTokenizer,
}

impl Draw {
    fn windows(
        &self,
        source: &TextSource,
        files: &[PathBuf],
    ) -> Result<CalibrationWindows, PipelineError> {
        let (name, separator) = (&source.name, source.excerpt.separator);
        let (n_samples, seq_len) = (self.n_samples, self.seq_len);
        let text = Text::read(files, source.excerpt.documents)?;
        let mut random = PythonRandom::seed(self.seed);
        let ids = match &text {
            Text::Whole(_) | Text::Rows(_) => {
                let tokens = self.tokenizer.encode(&text.joined(separator))?;
                draw_from_text(&tokens, n_samples, seq_len, &mut random).ok_or_else(|| {
                    let (has, needs) = (tokens.len(), seq_len + 1);
                    too_short(
                        name,
                        &format!("has {has} tokens, windows of {seq_len} need {needs}"),
                    )
                })?
            }
            Text::Documents(documents) => {
                let draw = DocumentDraw {
                    name,
                    documents,
                    tokenizer: &self.tokenizer,
                };
                draw.draw(n_samples, seq_len, &mut random)?
            }
        };
        let windows = TokenWindows::new(ids, seq_len)?;
        let record = record(
            &windows,
            name.clone(),
            "paper",
            Some(self.seed),
            Some(text.sha256(separator)),
        );
        Ok(CalibrationWindows { windows, record })
    }
}

fn too_short(name: &str, what: &str) -> PipelineError {
    PipelineError::refused(
        ErrorCode::TextTooShort,
        format!("calibration text {name:?} {what}"),
    )
}

/// As the paper's code does for WikiText-2: `i = randint(0, len − seq_len − 1)`, window = `tokens[i : i + seq_len]`.
/// `None` if there is no such place.
fn draw_from_text(
    tokens: &[u32],
    n_samples: usize,
    seq_len: usize,
    random: &mut PythonRandom,
) -> Option<Vec<u32>> {
    let last = tokens.len().checked_sub(seq_len + 1)?;
    let mut ids = Vec::with_capacity(n_samples * seq_len);
    for _ in 0..n_samples {
        let start = random.randint(last);
        ids.extend_from_slice(&tokens[start..start + seq_len]);
    }
    Some(ids)
}

struct DocumentDraw<'a> {
    name: &'a str,
    documents: &'a [String],
    tokenizer: &'a ModelTokenizer,
}

impl DocumentDraw<'_> {
    /// As the paper's code does for C4: documents are drawn until one is longer than a window, then a place in it.
    fn draw(
        &self,
        n_samples: usize,
        seq_len: usize,
        random: &mut PythonRandom,
    ) -> Result<Vec<u32>, PipelineError> {
        let Self {
            name,
            documents,
            tokenizer,
        } = *self;
        let mut tokens_of: Vec<Option<Vec<u32>>> = vec![None; documents.len()];
        let mut is_short = vec![false; documents.len()];
        let mut long_enough = documents.len();
        let mut ids = Vec::with_capacity(n_samples * seq_len);
        while ids.len() < n_samples * seq_len {
            // The paper's code would draw for ever.
            if long_enough == 0 {
                let count = documents.len();
                return Err(too_short(
                    name,
                    &format!("has no document of more than {seq_len} tokens among {count}"),
                ));
            }
            let document = random.randint(documents.len() - 1);
            if is_short[document] {
                continue;
            }
            let tokens = match &mut tokens_of[document] {
                Some(tokens) => tokens,
                empty => empty.insert(tokenizer.encode(&documents[document])?),
            };
            if tokens.len() <= seq_len {
                is_short[document] = true;
                long_enough -= 1;
                tokens_of[document] = None;
                continue;
            }
            let start = random.randint(tokens.len() - seq_len - 1);
            ids.extend_from_slice(&tokens[start..start + seq_len]);
        }
        Ok(ids)
    }
}

fn record(
    windows: &TokenWindows,
    dataset: String,
    sampler: &str,
    seed: Option<u64>,
    text_sha256: Option<String>,
) -> Calibration {
    Calibration {
        dataset,
        text_sha256,
        sampler: sampler.to_owned(),
        n_samples: windows.len(),
        seq_len: windows.seq_len(),
        seed,
        window_sha256: window_sha256(windows),
        shaped_window_sha256: Some(shaped_window_sha256(windows)),
    }
}

/// SHA-256 of the ids, row by row, as little-endian 64-bit integers.
pub(super) fn window_sha256(windows: &TokenWindows) -> String {
    sha256(windows.ids().iter().map(|&id| u64::from(id)))
}

/// The same of the shape `[n_windows, seq_len]` and the ids.
fn shaped_window_sha256(windows: &TokenWindows) -> String {
    let shape = [windows.len() as u64, windows.seq_len() as u64];
    let ids = windows.ids().iter().map(|&id| u64::from(id));
    sha256(shape.into_iter().chain(ids))
}

fn sha256(numbers: impl Iterator<Item = u64>) -> String {
    let mut digest = Sha256::new();
    numbers.for_each(|number| digest.update(number.to_le_bytes()));
    hex::encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_where_python_would_begin_them() {
        // random.seed(3); [random.randint(0, 100 - 8 - 1) for _ in range(4)] == [30, 75, 69, 16]
        let tokens: Vec<u32> = (0..100).collect();
        let ids = draw_from_text(&tokens, 4, 8, &mut PythonRandom::seed(3)).unwrap();
        let starts: Vec<u32> = ids.chunks(8).map(|window| window[0]).collect();
        assert_eq!(starts, [30, 75, 69, 16]);
        assert!(
            ids.chunks(8)
                .all(|window| window.windows(2).all(|pair| pair[1] == pair[0] + 1))
        );
    }

    #[test]
    fn windows_of_the_same_ids_and_another_shape_have_another_digest() {
        let cut = |seq_len| TokenWindows::new((0..8).collect(), seq_len).unwrap();
        let (two, four) = (cut(4), cut(2));
        assert_eq!(window_sha256(&two), window_sha256(&four));
        assert_ne!(shaped_window_sha256(&two), shaped_window_sha256(&four));
        // hashlib.sha256(struct.pack("<10q", 2, 4, *range(8))).hexdigest()
        assert_eq!(
            shaped_window_sha256(&two),
            "79b69637b91291f0543e25bfcb3cf540ab5581d1f75f1ac66cf0786cfc0bbc96"
        );
    }

    #[test]
    fn a_text_needs_one_token_more_than_a_window() {
        let tokens: Vec<u32> = (0..9).collect();
        assert!(draw_from_text(&tokens, 2, 8, &mut PythonRandom::seed(0)).is_some());
        assert!(draw_from_text(&tokens, 2, 9, &mut PythonRandom::seed(0)).is_none());
    }
}
