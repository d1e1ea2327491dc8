//! Every task, as one declaration each. Texts and versions are those of lm-evaluation-harness 0.4.13.

use super::error::FormatError;
use super::format::{hellaswag, wikitext};
use super::item::Question;
use super::metric::{
    ACC, ACC_NORM, BITS_PER_BYTE, BYTE_PERPLEXITY, EXACT_MATCH_FLEXIBLE, EXACT_MATCH_STRICT,
    Metric, PERPLEXITY, WORD_PERPLEXITY,
};
use super::python::{capitalize, strip};
use super::row::Row;
use super::split::Split;
use super::task::{Draw, Examples, Format, Task};
use crate::corpora::{HubSplit, WIKITEXT2, WIKITEXT2_TEST};

/// The seven tasks of the Wanda paper's table.
pub(super) const SEVEN: [&str; 7] = [
    "boolq",
    "rte",
    "hellaswag",
    "winogrande",
    "arc_easy",
    "arc_challenge",
    "openbookqa",
];

/// The metrics of most tasks.
const CHOICE: &[&Metric] = &[&ACC, &ACC_NORM];

/// A task as most are: without examples, in version 1.0.
const fn zero_shot(name: &'static str, split: Split, format: Format) -> Task {
    Task {
        name,
        version: "1.0",
        split,
        examples: None,
        shots: &[0],
        group: None,
        metrics: CHOICE,
        description: "",
        format,
    }
}

/// Every task. To add one, add its declaration here.
pub(super) const TASKS: &[Task] = &[
    Task {
        version: "2.0",
        metrics: &[&ACC],
        ..zero_shot(
            "boolq",
            Split {
                dataset: "boolq",
                name: "validation",
                hub: HubSplit {
                    repo: "aps/super_glue",
                    revision: "3de24cf8022e94f4ee4b9d55a6f539891524d646",
                    files: &["boolq/validation-00000-of-00001.parquet"],
                },
            },
            Format::Question(|row| {
                Ok(Question::Choices {
                    context: format!(
                        "{}\nQuestion: {}?\nAnswer:",
                        row.text("passage")?,
                        row.text("question")?
                    ),
                    choices: owned(&["no", "yes"]),
                    gold: row.index("label", 2)?,
                })
            }),
        )
    },
    Task {
        metrics: &[&ACC],
        ..zero_shot(
            "rte",
            Split {
                dataset: "rte",
                name: "validation",
                hub: HubSplit {
                    repo: "nyu-mll/glue",
                    revision: "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
                    files: &["rte/validation-00000-of-00001.parquet"],
                },
            },
            Format::Question(|row| {
                Ok(Question::Choices {
                    context: format!(
                        "{}\nQuestion: {} True or False?\nAnswer:",
                        row.text("sentence1")?,
                        row.text("sentence2")?
                    ),
                    choices: owned(&["True", "False"]),
                    gold: row.index("label", 2)?,
                })
            }),
        )
    },
    zero_shot(
        "hellaswag",
        Split {
            dataset: "hellaswag",
            name: "validation",
            hub: HubSplit {
                repo: "Rowan/hellaswag",
                revision: "218ec52e09a7e7462a5400043bb9a69a41d06b76",
                files: &["data/validation-00000-of-00001.parquet"],
            },
        },
        Format::Question(|row| {
            let ending = capitalize(row.text("ctx_b")?);
            let context = format!(
                "{}: {} {ending}",
                row.text("activity_label")?,
                row.text("ctx_a")?
            );
            let endings = row.texts("endings", Some(4))?;
            Ok(Question::Choices {
                context: hellaswag::clean(&context),
                choices: endings.into_iter().map(hellaswag::clean).collect(),
                gold: row.position("label", &["0", "1", "2", "3"])?,
            })
        }),
    ),
    Task {
        metrics: &[&ACC],
        ..zero_shot(
            "winogrande",
            Split {
                dataset: "winogrande",
                name: "validation",
                hub: HubSplit {
                    repo: "allenai/winogrande",
                    revision: "01e74176c63542e6b0bcb004dcdea22d94fb67b5",
                    files: &["winogrande_xl/validation-00000-of-00001.parquet"],
                },
            },
            Format::Question(|row| {
                let (before, after) = row
                    .text("sentence")?
                    .split_once('_')
                    .ok_or_else(|| row.error("sentence", "a blank (_) in the sentence", "none"))?;
                let options = [row.text("option1")?, row.text("option2")?];
                Ok(Question::Contexts {
                    contexts: options.map(|option| format!("{before}{option}")).into(),
                    continuation: strip(after).to_owned(),
                    gold: row.position("answer", &["1", "2"])?,
                })
            }),
        )
    },
    zero_shot(
        "arc_easy",
        Split {
            dataset: "arc_easy",
            name: "test",
            hub: HubSplit {
                repo: "allenai/ai2_arc",
                revision: "210d026faf9955653af8916fad021475a3f00453",
                files: &["ARC-Easy/test-00000-of-00001.parquet"],
            },
        },
        Format::Question(arc),
    ),
    zero_shot(
        "arc_challenge",
        Split {
            dataset: "arc_challenge",
            name: "test",
            hub: HubSplit {
                repo: "allenai/ai2_arc",
                revision: "210d026faf9955653af8916fad021475a3f00453",
                files: &["ARC-Challenge/test-00000-of-00001.parquet"],
            },
        },
        Format::Question(arc),
    ),
    zero_shot(
        "openbookqa",
        Split {
            dataset: "openbookqa",
            name: "test",
            hub: HubSplit {
                repo: "allenai/openbookqa",
                revision: "388097ea7776314e93a529163e0fea805b8a6454",
                files: &["main/test-00000-of-00001.parquet"],
            },
        },
        Format::Question(|row| labelled(row, row.text("question_stem")?.to_owned())),
    ),
    zero_shot(
        "piqa",
        Split {
            dataset: "piqa",
            name: "validation",
            hub: HubSplit {
                repo: "baber/piqa",
                revision: "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1",
                files: &["piqa_validation.parquet"],
            },
        },
        Format::Question(|row| {
            Ok(Question::Choices {
                context: format!("Question: {}\nAnswer:", row.text("goal")?),
                choices: owned(&[row.text("sol1")?, row.text("sol2")?]),
                gold: row.index("label", 2)?,
            })
        }),
    ),
    Task {
        metrics: &[&ACC, &PERPLEXITY],
        ..zero_shot(
            "lambada_openai",
            Split {
                dataset: "lambada_openai",
                name: "test",
                hub: HubSplit {
                    repo: "EleutherAI/lambada_openai",
                    revision: "900124bf3b8235c6daf21033af9948b3f07346c4",
                    files: &["data/lambada_test.jsonl"],
                },
            },
            Format::Question(|row| {
                let text = row.text("text")?;
                let (context, word) = text.rsplit_once(' ').unwrap_or(("", text));
                Ok(Question::Target {
                    context: context.to_owned(),
                    continuation: format!(" {word}"),
                })
            }),
        )
    },
    Task {
        version: "2",
        examples: Some(Examples {
            split: mmlu("dev", &["all/dev-00000-of-00001.parquet"]),
            draw: Draw::First,
        }),
        shots: &[0, 5],
        group: Some("subject"),
        metrics: &[&ACC],
        description: "The following are multiple choice questions (with answers) about {group}.\n\n",
        ..zero_shot(
            "mmlu",
            mmlu("test", &["all/test-00000-of-00001.parquet"]),
            Format::Question(|row| {
                let question = strip(row.text("question")?);
                let texts = row.texts("choices", Some(4))?;
                let letters = ["A", "B", "C", "D"];
                let lines = letters.iter().zip(texts);
                let lines: Vec<String> = lines
                    .map(|(letter, text)| format!("{letter}. {text}"))
                    .collect();
                Ok(Question::Choices {
                    context: format!("{question}\n{}\nAnswer:", lines.join("\n")),
                    choices: owned(&letters),
                    gold: row.index("answer", 4)?,
                })
            }),
        )
    },
    Task {
        version: "2.0",
        metrics: &[&WORD_PERPLEXITY, &BYTE_PERPLEXITY, &BITS_PER_BYTE],
        ..zero_shot(
            "wikitext",
            Split {
                dataset: WIKITEXT2.name,
                name: "wiki.test",
                hub: WIKITEXT2_TEST,
            },
            Format::Pages(wikitext::pages),
        )
    },
    Task {
        version: "3.0",
        examples: Some(Examples {
            split: gsm8k("train", &["main/train-00000-of-00001.parquet"]),
            draw: Draw::Random { seed: 1234 },
        }),
        shots: &[5, 0],
        metrics: &[&EXACT_MATCH_STRICT, &EXACT_MATCH_FLEXIBLE],
        ..zero_shot(
            "gsm8k",
            gsm8k("test", &["main/test-00000-of-00001.parquet"]),
            Format::Generation {
                read: |row| {
                    let question = format!("Question: {}\nAnswer:", row.text("question")?);
                    Ok((question, row.text("answer")?.to_owned()))
                },
                stops: &["Question:", "</s>", "<|im_end|>"],
                max_new_tokens: 256,
            },
        )
    },
    Task {
        metrics: &[],
        ..zero_shot(
            "humaneval",
            Split {
                dataset: "humaneval",
                name: "test",
                hub: HubSplit {
                    repo: "openai/openai_humaneval",
                    revision: "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
                    files: &["openai_humaneval/test-00000-of-00001.parquet"],
                },
            },
            Format::Refused("it runs generated programs, which needs isolated code execution"),
        )
    },
];

const fn mmlu(name: &'static str, files: &'static [&'static str]) -> Split {
    Split {
        dataset: "mmlu",
        name,
        hub: HubSplit {
            repo: "cais/mmlu",
            revision: "c30699e8356da336a370243923dbaf21066bb9fe",
            files,
        },
    }
}

const fn gsm8k(name: &'static str, files: &'static [&'static str]) -> Split {
    Split {
        dataset: "gsm8k",
        name,
        hub: HubSplit {
            repo: "openai/gsm8k",
            revision: "740312add88f781978c0658806c59bc2815b9866",
            files,
        },
    }
}

fn arc(row: &Row<'_>) -> Result<Question, FormatError> {
    labelled(row, format!("Question: {}\nAnswer:", row.text("question")?))
}

/// Choices in `choices.text`, named in `choices.label`; `answerKey` names the right one.
fn labelled(row: &Row<'_>, context: String) -> Result<Question, FormatError> {
    let choices = row.texts("choices.text", None)?;
    let labels = row.texts("choices.label", Some(choices.len()))?;
    Ok(Question::Choices {
        context,
        choices: owned(&choices),
        gold: row.position("answerKey", &labels)?,
    })
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().copied().map(str::to_owned).collect()
}
