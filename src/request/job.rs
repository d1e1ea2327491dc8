//! The body of a submission, field by field.

use serde_json::{Map, Value, json};

use super::evaluation::{evaluation, seq_len, texts};
use super::rule::text::{
    hub_id, job_id, line, model_id, pattern, relative_path, revision, time, words,
};
use super::rule::{Absent, Errors, Field, Object, Rule, Variant, field};
use super::targets::{allocation, rules, targets};
use super::{Defaults, limits};
use crate::corpora::{C4, Corpus, DEMO, WIKITEXT2};
use crate::domain::idempotency::OnDuplicate;
use crate::domain::job::scheduling::DeviceKind;
use crate::domain::spec::{BUNDLED_MODEL, JobType};
use crate::engine::{
    AllocationSpec, ComparisonGroup, Contradiction, Pattern, Propagation, Pruning, PruningMethod,
    PruningWork, REFINEMENTS,
};

/// Where a model can come from.
pub const MODEL_SOURCES: [&str; 3] = ["hub", "local", "job"];

/// What an artifact can be.
pub const ARTIFACT_FORMATS: [&str; 1] = ["dense"];

/// Whether a body names the bundled model, which brings its own text.
pub(super) fn is_bundled(body: &Value) -> bool {
    let model = &body["model"];
    *model == BUNDLED_MODEL || (model["source"] == "local" && model["id"] == BUNDLED_MODEL)
}

/// The body of a submission.
pub(super) fn body(defaults: Defaults, is_bundled: bool) -> Rule {
    let text = |usual: &Corpus| if is_bundled { DEMO.name } else { usual.name };
    let (calibration, evaluation) = (text(&C4), text(&WIKITEXT2));
    let prune = [common(), prune(defaults, calibration, evaluation)];
    let evaluate = [common(), evaluate(defaults, evaluation)];
    let [prune, evaluate] = [prune, evaluate].map(|parts| parts.into_iter().flatten().collect());
    let (prune, evaluate) = (Object::new(prune), Object::new(evaluate));
    Rule::Tagged {
        tag: "type",
        absent: Absent::Default(json!(JobType::Prune)),
        variants: vec![
            Variant::new(JobType::Prune.as_str(), prune.check(prunable)).named(
                "PruneBody",
                "Prune a model and measure it before and after.",
            ),
            Variant::new(JobType::Evaluate.as_str(), evaluate.check(measurable)).named(
                "EvaluateBody",
                "Measure a model, or two against each other.",
            ),
        ],
        shared: Vec::new(),
    }
}

fn common() -> Vec<Field> {
    let metadata = Rule::Pairs {
        key: line(limits::METADATA_KEY_CHARS),
        value: line(limits::METADATA_VALUE_CHARS),
        most: limits::METADATA_PAIRS,
    }
    .named("MetadataBody", "Free key-value pairs.");
    let device = field(
        "device",
        words("device", DeviceKind::ALL.map(DeviceKind::as_str).into()).named("DeviceKind"),
    )
    .doc("The kind of device; any when left out.");
    let resources = Rule::from(Object::new(vec![device]))
        .named("ResourcesBody", "What the job needs of a worker.");
    vec![
        field("name", line(limits::NAME_CHARS)).doc("The submitter's name for the job."),
        field("metadata", metadata)
            .or_computed(json!({}))
            .doc("Free key-value pairs."),
        field("run_after", time()).doc("The job does not start earlier; RFC 3339."),
        field("priority", Rule::integer(limits::PRIORITY, ""))
            .or(0)
            .doc("Higher ones start first."),
        field("submitter", line(limits::SUBMITTER_CHARS))
            .or("")
            .doc(
                "Who asks for it. Of jobs of one priority, those of the submitter with the fewest \
             running jobs are claimed first. Jobs without a submitter have one in common.",
            ),
        field("resources", resources)
            .or_computed(json!({}))
            .doc("What the job needs of a worker."),
        field(
            "deadline_seconds",
            Rule::integer(limits::DEADLINE_SECONDS, "seconds"),
        )
        .doc("The job fails unless it is over this long after its acceptance, or its last retry."),
        field(
            "on_duplicate",
            words("choice", OnDuplicate::ALL.map(OnDuplicate::as_str).into()).named("OnDuplicate"),
        )
        .or(OnDuplicate::default().as_str())
        .doc(
            "`return`: a job that does the same work, or has done it, is the answer, and no other \
             one is made.",
        ),
    ]
}

fn prune(defaults: Defaults, calibration_text: &str, evaluation_text: &str) -> Vec<Field> {
    let formats = Rule::Exactly {
        name: "ArtifactFormat",
        words: ARTIFACT_FORMATS.into(),
    };
    let formats = field("formats", formats).doc("The formats of the artifact.");
    let artifact =
        Rule::from(Object::new(vec![formats])).named("ArtifactBody", "What is left in the end.");
    vec![
        field("model", model())
            .required()
            .doc("The model to prune."),
        field("method", method())
            .or(PruningMethod::default().name())
            .doc("How weights, or parts of the model, are ranked."),
        field("group", words("comparison group", ComparisonGroup::ALL.map(ComparisonGroup::name).into()))
            .doc(
                "Whose scores are compared by a method that goes by them, where the pattern is unstructured: those of a \
                 `row` or of the whole `linear`; as the method does by itself when left out.",
            ),
        field("refine", words("refinement", refinements()))
            .doc("What changes the mask of the method, and keeps its count."),
        field("refit", Rule::Flag)
            .or(false)
            .doc("Whether the kept weights are fitted to the dense outputs of their linear."),
        field("propagation", words("propagation", Propagation::ALL.map(Propagation::name).into()))
            .or(Propagation::default().name())
            .doc(
                "Where the inputs come from that linears are pruned by: from the dense block behind the pruned ones \
             (`pruned`, as the paper does), from the dense model, or from the pruned model while the kept weights are \
             fitted to what the dense one has there (`paired`).",
            ),
        field("pattern", pattern())
            .or(json!(Pattern::default()))
            .doc("Where zeros may be; `N:M` keeps N of every M consecutive input features, N < M."),
        field("sparsity", Rule::NumberBelow(0.0..1.0))
            .doc(
                "Fraction of zeros of the linears that no rule names; of a method that removes parts, the fraction of these, rounded \
                 down. May be left out for N:M, where it is 1 - N/M.",
            ),
        field("rules", rules())
            .or(json!([]))
            .doc("What is asked of linears by their names; the first rule that matches counts."),
        field("allocation", allocation())
            .or(AllocationSpec::default().kind.name())
            .doc("How the zeros of the linears that no rule names are shared among blocks."),
        field("calibration", calibration(defaults, calibration_text))
            .or_computed(json!({}))
            .doc("The windows that activations are observed on."),
        field("evaluation", evaluation(defaults, evaluation_text))
            .or_computed(json!({}))
            .doc("What is measured before and after."),
        field("artifact", artifact).doc("What is left in the end."),
    ]
}

fn evaluate(defaults: Defaults, evaluation_text: &str) -> Vec<Field> {
    vec![
        field("model", model())
            .required()
            .doc("The model to measure."),
        field("baseline", model()).doc("What it is compared with: its numbers stand in `before`."),
        field("evaluation", evaluation(defaults, evaluation_text))
            .or_computed(json!({}))
            .doc("What is measured; at least one text or task."),
    ]
}

fn model() -> Rule {
    let hub = vec![
        field("id", hub_id()).required().doc("`organisation/name`."),
        field("revision", revision())
            .or("main")
            .doc("Branch, tag or commit."),
    ];
    let local = vec![
        field("id", relative_path())
            .required()
            .doc("The name of its directory."),
    ];
    let job = vec![field("id", job_id()).required().doc(
        "A succeeded job of the type `prune`: its artifact. For jobs of the type `evaluate` only.",
    )];
    let full = Rule::Tagged {
        tag: "source",
        absent: Absent::Required,
        variants: MODEL_SOURCES
            .into_iter()
            .zip([
                ("HubModel", "A repository of the model hub.", hub),
                ("LocalModel", "A directory of the server's models.", local),
                ("JobModel", "The artifact of a job.", job),
            ])
            .map(|(source, (name, doc, fields))| {
                Variant::new(source, Object::new(fields)).named(name, doc)
            })
            .collect(),
        shared: Vec::new(),
    };
    let expand = |id: &str| {
        let source = if id.contains('/') { "hub" } else { "local" };
        json!({"source": source, "id": id})
    };
    Rule::short(model_id(), expand, full).named(
        "ModelBody",
        "`organisation/name` on the hub, or the name of a local model; or both spelt out.",
    )
}

fn refinements() -> Vec<&'static str> {
    REFINEMENTS.map(|refinement| refinement.name()).into()
}

fn method() -> Rule {
    const NAME: &str = "MethodName";
    let names = PruningMethod::names;
    let method = Variant::any_of(NAME, names(), Object::new(Vec::new()));
    let full = Rule::Tagged {
        tag: "type",
        absent: Absent::Required,
        variants: vec![method.named("MethodBody", "A method.")],
        shared: Vec::new(),
    };
    let expand = |name: &str| json!({"type": name});
    Rule::short(words("method", names()).named(NAME), expand, full)
}

fn calibration(defaults: Defaults, text: &str) -> Rule {
    Rule::Tagged {
        tag: "dataset",
        absent: Absent::Computed(json!(text)),
        variants: texts(["RegisteredCalibration", "LocalCalibration"]),
        shared: vec![
            field("n_samples", Rule::integer(1..=limits::N_SAMPLES, "windows"))
                .or_computed(defaults.n_samples)
                .doc("Number of windows."),
            seq_len(),
            field("seed", Rule::integer(0..=u64::MAX, ""))
                .or(0)
                .doc("Seed of the sampler."),
        ],
    }
}

/// Sparsity is required for unstructured patterns; for N:M it follows from the pattern and may only repeat it.
fn prunable(
    body: &Map<String, Value>,
    read: &mut Map<String, Value>,
    at: &str,
    errors: &mut Errors,
) {
    if read["model"]["source"] == "job" {
        let detail = "the artifact of a job can be evaluated, not pruned".to_owned();
        errors.add(&format!("{at}/model/source"), "unsupported", detail);
    }
    let pruning = pruning(read);
    let contradictions = pruning.iter().flat_map(Pruning::contradictions);
    for Contradiction { part, detail } in contradictions {
        errors.add(&format!("{at}/{part}"), "contradiction", detail);
    }
    let pattern = read["pattern"].as_str().map(str::parse::<Pattern>);
    let Some(Ok(pattern)) = pattern else { return };
    // Parts have no pattern that a sparsity could follow from.
    let has_parts = pruning.is_some_and(|it| matches!(it.work(), PruningWork::Parts(_)));
    let pattern = if has_parts {
        Pattern::default()
    } else {
        pattern
    };
    let at = format!("{at}/sparsity");
    if let Some(implied) = pattern.implied_sparsity() {
        let given = read["sparsity"].as_f64();
        if given.is_some_and(|given| (given - implied).abs() > 1e-9) {
            let detail = format!(
                "the pattern {pattern} means a sparsity of {implied}; leave it out or say so"
            );
            errors.add(&at, "contradiction", detail);
        }
        read.insert("sparsity".to_owned(), json!(implied));
    } else if body.get("sparsity").is_none_or(Value::is_null) {
        let detail = format!("`sparsity` is required for the pattern {pattern}");
        errors.add(&at, "required", detail);
    }
}

/// What is asked for; a part that is wrong by itself was told already, and counts as left out.
fn pruning(read: &Map<String, Value>) -> Option<Pruning> {
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let method = word(&read["method"]["type"])?;
    Some(Pruning {
        group: word(&read["group"]).and_then(|group| group.parse().ok()),
        refine: word(&read["refine"]).and_then(|refine| refine.parse().ok()),
        refit: read["refit"].as_bool().unwrap_or_default(),
        propagation: word(&read["propagation"])
            .and_then(|propagation| propagation.parse().ok())
            .unwrap_or_default(),
        targets: targets(read),
        ..method.parse::<PruningMethod>().ok()?.into()
    })
}

/// A measurement without pruning measures something.
fn measurable(
    _: &Map<String, Value>,
    read: &mut Map<String, Value>,
    at: &str,
    errors: &mut Errors,
) {
    let evaluation = &read["evaluation"];
    if ["perplexity", "tasks"].map(|field| &evaluation[field]) == [&json!([]); 2] {
        let detail =
            "name a text in `perplexity` or a task in `tasks`: there is nothing to measure";
        errors.add(&format!("{at}/evaluation"), "required", detail.to_owned());
    }
}
