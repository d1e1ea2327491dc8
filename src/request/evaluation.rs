//! The field `evaluation`: what is measured.

use serde_json::{Map, Value, json};

use super::rule::text::{quoted, relative_path, words};
use super::rule::{Absent, Errors, Field, Object, Rule, TextRule, Variant, field};
use super::{Defaults, limits};
use crate::corpora::{Corpus, LOCAL};
use crate::domain::spec::{BosRule, GenerationRule, Guard, task_names};
use crate::tasks::Task;

/// What the schema calls the name of a registered text.
const CORPUS_NAME: &str = "CorpusName";

/// The field `evaluation`, which measures perplexity on this text unless it says otherwise.
pub(super) fn evaluation(defaults: Defaults, text: &str) -> Rule {
    let fields = vec![
        field(
            "perplexity",
            Rule::list(perplexity_text(), limits::PERPLEXITY_TEXTS),
        )
        .or_computed(json!([text]))
        .doc("Texts to measure perplexity on."),
        seq_len(),
        field("windows", Rule::integer(1..=u32::MAX, "windows"))
            .doc("Number of windows to measure, from the start."),
        field("max_tokens", Rule::integer(2..=u32::MAX, "tokens"))
            .or_unless_null(json!(defaults.max_tokens))
            .doc(
                "Without `windows`: the most tokens of each text, from the start, but one window at \
                 least. `null` is the whole text; a part when left out, unless there is a GPU.",
            ),
        field("tasks", Rule::list(task(), limits::TASKS))
            .or(json!([]))
            .doc("Tasks to measure, each at most once."),
        field("limit", Rule::integer(1..=u32::MAX, "documents")).doc(
            "Number of documents of each task, from the start; of each of its parts where it has \
             parts; all when left out.",
        ),
        field(
            "bos",
            words("rule", BosRule::ALL.map(BosRule::as_str).into()).named("BosRule"),
        )
        .or(json!(BosRule::default()))
        .doc(
            "Whether a token for the beginning of text goes before a task's context: as the \
             tokenizer does by itself (lm-evaluation-harness since 0.4.9.2), or never (before \
             that).",
        ),
        field("guard", guard())
            .or_computed(json!({}))
            .doc("From where on a result is called a collapse: the job succeeds with a warning."),
        field(
            "generations",
            words("rule", GenerationRule::ALL.map(GenerationRule::as_str).into()),
        )
        .or(json!(GenerationRule::default()))
        .doc(
            "Whether the models continue fixed prompts: where it takes no longer than the \
             measurement, in any case, or never.",
        ),
    ];
    Rule::from(Object::new(fields).check(consistent))
        .named("EvaluationBody", "What is measured before and after.")
}

/// Tokens per window.
pub(super) fn seq_len() -> Field {
    field("seq_len", Rule::integer(limits::SEQ_LEN, "tokens"))
        .doc("Tokens per window; the smaller of the model's context and 2048 when left out.")
}

/// Texts by `dataset`, under these names in the schema.
pub(super) fn texts([registered, local]: [&'static str; 2]) -> Vec<Variant> {
    let path = field("path", relative_path())
        .required()
        .doc("Relative to the server's data directory.");
    vec![
        Variant::any_of(CORPUS_NAME, Corpus::names(), Object::new(Vec::new()))
            .named(registered, "A registered text."),
        Variant::new(LOCAL, Object::new(vec![path]))
            .named(local, "A file below the server's data directory."),
    ]
}

fn perplexity_text() -> Rule {
    let full = Rule::Tagged {
        tag: "dataset",
        absent: Absent::Required,
        variants: texts(["RegisteredText", "LocalText"]),
        shared: Vec::new(),
    };
    let expand = |name: &str| json!({"dataset": name});
    let short = words("data set", Corpus::names()).named(CORPUS_NAME);
    Rule::short(short, expand, full)
}

fn task() -> Rule {
    let shots = field("shots", Rule::integer(0..=limits::SHOTS, "shots")).doc(
        "Worked examples before each question; the task's usual number when left out. \
         `/v1/capabilities` lists what each task takes.",
    );
    let name = field("name", task_name())
        .required()
        .doc("A task that can be run.");
    let full = Rule::from(Object::new(vec![name, shots]).check(shots_fit)).named(
        "TaskBody",
        "A task and how many worked examples stand before each question.",
    );
    Rule::short(task_name(), |name| json!({"name": name}), full)
}

fn task_name() -> TextRule {
    let rule = TextRule::new(json!({"enum": task_names()}), |name| {
        let Some(task) = Task::find(name) else {
            let known = task_names().join(", ");
            let detail = format!("unknown task {}, expected one of {known}", quoted(name));
            return Err(("unknown_task", detail));
        };
        task.refusal().map_or(Ok(()), |reason| {
            let detail = format!("the task {name:?} cannot be run: {reason}");
            Err(("unsupported", detail))
        })
    });
    rule.named("TaskName")
}

/// Without a number, as many examples as are usual.
fn shots_fit(
    task: &Map<String, Value>,
    read: &mut Map<String, Value>,
    at: &str,
    errors: &mut Errors,
) {
    let Some(found) = read["name"].as_str().and_then(Task::find) else {
        return;
    };
    if let Some(shots) = read["shots"].as_u64() {
        let shots = usize::try_from(shots).unwrap_or(usize::MAX);
        if let Err(error) = found.check_shots(shots) {
            errors.add(&format!("{at}/shots"), "unsupported", error.to_string());
        }
    } else if task.get("shots").is_none_or(Value::is_null) {
        read.insert("shots".to_owned(), json!(found.shots[0]));
    }
}

/// With two numbers of examples a task would count twice in the mean, on the same documents.
fn consistent(
    body: &Map<String, Value>,
    read: &mut Map<String, Value>,
    at: &str,
    errors: &mut Errors,
) {
    if !read["windows"].is_null() {
        if body.get("max_tokens").is_some_and(|given| !given.is_null()) {
            let detail = "give `windows` or `max_tokens`, not both".to_owned();
            errors.add(&format!("{at}/max_tokens"), "contradiction", detail);
        }
        read.insert("max_tokens".to_owned(), Value::Null);
    }
    let tasks = read["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    if tasks.contains(&Value::Null) {
        return;
    }
    for (i, task) in tasks.iter().enumerate() {
        let name = &task["name"];
        if let Some(first) = tasks[..i].iter().position(|before| before["name"] == *name) {
            let detail = format!("{name} is entry {first} already");
            errors.add(&format!("{at}/tasks/{i}"), "duplicate", detail);
        }
    }
}

fn guard() -> Rule {
    let defaults = json!(Guard::default());
    let threshold = |name, doc, range| {
        field(name, Rule::Number(range))
            .or_unless_null(defaults[name].clone())
            .doc(doc)
    };
    let thresholds = Object::new(vec![
        threshold(
            "perplexity_ratio",
            "Most that perplexity may grow, after / before. `null` switches it off.",
            1.0..=limits::PERPLEXITY_RATIO,
        ),
        threshold(
            "kl",
            "Most divergence from the dense model, in nats per token. `null` switches it off.",
            0.0..=limits::KL,
        ),
        threshold(
            "accuracy_drop",
            "Most that the accuracy of a task may fall. `null` switches it off.",
            0.0..=1.0,
        ),
        threshold(
            "mmlu_above_chance",
            "Least that MMLU must lie above chance, if the dense model does. `null` switches it off.",
            0.0..=1.0,
        ),
        threshold(
            "repetition",
            "Most of a greedy continuation that may repeat itself. `null` switches it off.",
            0.0..=1.0,
        ),
    ]);
    Rule::from(thresholds).named("GuardBody", "Thresholds of the collapse guard.")
}
