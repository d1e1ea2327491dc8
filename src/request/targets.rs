//! What a body asks of linears: rules by their names, and how zeros are shared among blocks.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::limits;
use super::rule::text::{line, pattern, words};
use super::rule::{Absent, Errors, Field, Object, Rule, Variant, field};
use crate::engine::{
    ALLOCATIONS, AllocationId, AllocationSpec, Contradiction, Goal, LinearRule, ParameterKind,
    Pattern, Targets,
};

/// A list of rules.
pub(super) fn rules() -> Rule {
    let rule = Object::new(vec![
        field("match", line(limits::RULE_CHARS))
            .required()
            .doc("A regular expression that is searched for in the names of linears."),
        field("sparsity", Rule::NumberBelow(0.0..1.0))
            .doc("The fraction of zeros at any position."),
        field("pattern", pattern()).doc("An `N:M` pattern."),
        field("dense", Rule::Flag)
            .or(false)
            .doc("Whether the linears are left as they are."),
    ]);
    let rule = Rule::from(rule.check(meaningful)).named(
        "RuleBody",
        "What is asked of the linears whose names match: one of `sparsity`, `pattern` and `dense`.",
    );
    Rule::list(rule, limits::RULES)
}

/// An allocation by its name, or with its parameters.
pub(super) fn allocation() -> Rule {
    const NAME: &str = "AllocationName";
    let names = || ALLOCATIONS.map(|allocation| allocation.name()).into();
    let object = Object::new(parameters()).check(complete);
    let variant = Variant::any_of(NAME, names(), object);
    let full = Rule::Tagged {
        tag: "type",
        absent: Absent::Required,
        variants: vec![variant.named("AllocationBody", "An allocation and its parameters.")],
        shared: Vec::new(),
    };
    let expand = |name: &str| json!({"type": name});
    Rule::short(words("allocation", names()).named(NAME), expand, full)
}

/// The parameters of all allocations, by name.
fn parameters() -> Vec<Field> {
    let mut fields = BTreeMap::new();
    for parameter in ALLOCATIONS.iter().flat_map(|it| it.parameters()) {
        let rule = match &parameter.kind {
            ParameterKind::Number { range, .. } => Rule::Number(range.clone()),
            ParameterKind::Fractions => Rule::list(Rule::NumberBelow(0.0..1.0), limits::BLOCKS),
        };
        let field = field(parameter.name, rule).doc(parameter.doc);
        fields.insert(parameter.name, field);
    }
    fields.into_values().collect()
}

/// Keeps the parameters of the allocation that is named, with their defaults.
fn complete(
    body: &Map<String, Value>,
    read: &mut Map<String, Value>,
    at: &str,
    errors: &mut Errors,
) {
    let kind = read["type"].as_str().map(str::parse::<AllocationId>);
    let Some(Ok(kind)) = kind else { return };
    read.retain(|_, value| !value.is_null());
    let mut allocation = AllocationSpec::from(kind);
    let given = serde_json::from_value::<AllocationSpec>(Value::Object(read.clone()));
    let given = given.map(|given| given.parameters).unwrap_or_default();
    for name in given.keys() {
        if !kind.parameters().iter().any(|it| it.name == *name) {
            let detail = format!("{kind} does not take it");
            errors.add(&format!("{at}/{name}"), "unknown_field", detail);
        }
    }
    allocation.parameters.extend(given);
    if let Some(Contradiction { part, detail }) = allocation.contradiction() {
        // A part that is wrong by itself was told already.
        match (body.get(part), read.get(part)) {
            (None, None) => errors.add(&format!("{at}/{part}"), "required", detail),
            (_, Some(_)) => errors.add(&format!("{at}/{part}"), "contradiction", detail),
            (Some(_), None) => Value::Null,
        };
    }
    if let Ok(Value::Object(whole)) = serde_json::to_value(&allocation) {
        *read = whole;
    }
}

/// What a body asks of linears, for what depends on several of its fields.
pub(super) fn targets(read: &Map<String, Value>) -> Targets {
    let pattern = read["pattern"].as_str();
    let pattern: Option<Pattern> = pattern.and_then(|pattern| pattern.parse().ok());
    let pattern = pattern.unwrap_or_default();
    let sparsity = read["sparsity"].as_f64().or(pattern.implied_sparsity());
    let (rules, allocation) = (read["rules"].clone(), read["allocation"].clone());
    Targets {
        goal: Goal::new(pattern, sparsity.unwrap_or_default()),
        rules: serde_json::from_value(rules).unwrap_or_default(),
        allocation: serde_json::from_value(allocation).unwrap_or_default(),
    }
}

fn meaningful(
    body: &Map<String, Value>,
    read: &mut Map<String, Value>,
    at: &str,
    errors: &mut Errors,
) {
    let is_wrong = |name: &str| {
        let given = body.get(name).is_some_and(|value| !value.is_null());
        given && read[name].is_null()
    };
    // A part that is wrong by itself was told already.
    if ["sparsity", "pattern"].into_iter().any(is_wrong) {
        return;
    }
    let rule = serde_json::from_value::<LinearRule>(Value::Object(read.clone()));
    let Some(Contradiction { part, detail }) = rule.ok().and_then(|rule| rule.contradiction())
    else {
        return;
    };
    let (at, code) = match part {
        "" => (at.to_owned(), "contradiction"),
        part => (format!("{at}/{part}"), "invalid_format"),
    };
    errors.add(&at, code, detail);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::domain::spec::JobSpec;
    use crate::engine::AllocationSpec;
    use crate::request::{Defaults, FieldError, JobRequest};

    fn parse(rules: &serde_json::Value) -> Result<JobSpec, Vec<FieldError>> {
        let body = json!({"model": "org/name", "sparsity": 0.5, "rules": rules});
        JobRequest::parse(&body, Defaults::CPU).map(|request| request.spec)
    }

    #[test]
    fn rules_are_read_in_their_order_and_can_be_sent_again() {
        let rules = json!([
            {"match": "k_proj", "pattern": "2:4"}, {"match": "^model", "sparsity": 0.25, "dense": null},
            {"match": "down", "dense": true},
        ]);
        let JobSpec::Prune(spec) = parse(&rules).unwrap() else {
            panic!("it prunes");
        };
        let written: Vec<String> = spec.rules.iter().map(ToString::to_string).collect();
        assert_eq!(written, ["k_proj=2:4", "^model=0.25", "down=dense"]);
        let again = parse(&serde_json::to_value(&spec.rules).unwrap());
        assert_eq!(again.unwrap(), JobSpec::Prune(spec));
    }

    #[test]
    fn every_rule_without_a_meaning_is_told() {
        let rules = json!([
            {"match": "(", "sparsity": 0.5}, {"match": "k", "dense": true, "sparsity": 0.5}, {"match": "k"},
            {"match": "k", "pattern": "unstructured"}, {"match": "k", "sparsity": 1.0}, {"sparsity": 0.5},
            {"match": "k", "pattern": "2:4", "sparsty": 1},
        ]);
        let errors = parse(&rules).unwrap_err();
        let found: Vec<_> = errors
            .iter()
            .map(|error| (error.pointer.as_str(), error.code))
            .collect();
        let expected = [
            ("/rules/0/match", "invalid_format"),
            ("/rules/1", "contradiction"),
            ("/rules/2", "contradiction"),
            ("/rules/3/pattern", "invalid_format"),
            ("/rules/4/sparsity", "out_of_range"),
            ("/rules/5/match", "required"),
            ("/rules/6/sparsty", "unknown_field"),
        ];
        assert_eq!(found, expected, "{errors:?}");
    }

    fn allocation(
        allocation: &serde_json::Value,
        pattern: &str,
    ) -> Result<String, Vec<FieldError>> {
        let body = json!({
            "model": "org/name", "sparsity": 0.5, "pattern": pattern, "allocation": allocation,
        });
        JobRequest::parse(&body, Defaults::CPU).map(|request| match request.spec {
            JobSpec::Prune(spec) => {
                let written = serde_json::to_value(&spec).unwrap()["allocation"].take();
                assert_eq!(
                    serde_json::from_value::<AllocationSpec>(written).unwrap(),
                    spec.allocation
                );
                spec.allocation.to_string()
            }
            JobSpec::Evaluate(_) => panic!("it prunes"),
        })
    }

    #[test]
    fn an_allocation_is_completed_with_its_own_parameters() {
        for (body, expected) in [
            (json!(null), "uniform"),
            (
                json!("owl"),
                "owl,lambda=0.08,max_sparsity=0.99,min_sparsity=0,threshold=3",
            ),
            (
                json!({"type": "dlp", "alpha": 0.1, "max_sparsity": 1, "lambda": null}),
                "dlp,alpha=0.1,max_sparsity=1,min_sparsity=0",
            ),
            (
                json!({"type": "table", "sparsities": [0.25, 0]}),
                "table,sparsities=[0.25, 0.0]",
            ),
        ] {
            assert_eq!(allocation(&body, "unstructured").unwrap(), expected);
        }
    }

    #[test]
    fn an_allocation_without_a_meaning_is_told_where_it_is() {
        for (body, pattern, pointer, code) in [
            (json!("owls"), "unstructured", "/allocation", "unsupported"),
            (
                json!({"type": "owl", "alpha": 0.1}),
                "unstructured",
                "/allocation/alpha",
                "unknown_field",
            ),
            (
                json!({"type": "owl", "lambda": 0.9}),
                "unstructured",
                "/allocation/lambda",
                "out_of_range",
            ),
            (
                json!("table"),
                "unstructured",
                "/allocation/sparsities",
                "required",
            ),
            (
                json!({"type": "dlp", "min_sparsity": 0.9, "max_sparsity": 0.1}),
                "unstructured",
                "/allocation/min_sparsity",
                "contradiction",
            ),
            (json!("owl"), "2:4", "/allocation", "contradiction"),
        ] {
            let errors = allocation(&body, pattern).unwrap_err();
            let found: Vec<_> = errors
                .iter()
                .map(|error| (error.pointer.as_str(), error.code))
                .collect();
            assert_eq!(found, [(pointer, code)], "{errors:?}");
        }
    }
}
