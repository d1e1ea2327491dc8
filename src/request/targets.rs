//! What a body asks of linears: rules by their names.

use serde_json::{Map, Value};

use super::limits;
use super::rule::text::{line, pattern};
use super::rule::{Errors, Object, Rule, field};
use crate::engine::{Contradiction, LinearRule};

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
}
