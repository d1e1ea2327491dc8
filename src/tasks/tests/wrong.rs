//! Documents that are wrong.

use serde_json::{Value, json};

use super::row;
use crate::tasks::{Shots, Task};

/// The error of a task whose second document has another value, or none, in a column.
fn error_of(name: &str, column: &str, value: Option<Value>) -> String {
    let task = Task::find(name).unwrap();
    let mut wrong = row(name);
    let fields = wrong.as_object_mut().unwrap();
    let outer = column.split('.').next().unwrap();
    match value {
        Some(value) => fields.insert(outer.to_owned(), value),
        None => fields.remove(outer),
    };
    let error = task.documents(&[row(name), wrong], Shots::NONE, None);
    error.unwrap_err().to_string()
}

fn assert_errors(cases: &[(&str, &str, Option<Value>, &str)]) {
    for (name, column, value, expected) in cases {
        let split = Task::find(name).unwrap().split.name;
        assert_eq!(
            error_of(name, column, value.clone()),
            format!(
                "task {name:?}: document 1 of split {split:?}: column {column:?}: expected {expected}"
            )
        );
    }
}

#[test]
fn a_missing_or_mistyped_column_is_an_error_that_says_where_and_what() {
    assert_errors(&[
        ("boolq", "passage", None, "a string, found none"),
        (
            "boolq",
            "label",
            Some(json!("1")),
            "an integer from 0 to 1, found a string",
        ),
        (
            "rte",
            "sentence2",
            Some(json!(null)),
            "a string, found null",
        ),
        (
            "hellaswag",
            "endings",
            Some(json!(["a", "b"])),
            "4 strings, found 2",
        ),
        ("hellaswag", "label", Some(json!(3)), "a string, found 3"),
        (
            "arc_challenge",
            "choices.text",
            Some(json!(null)),
            "a list of strings, found none",
        ),
        ("piqa", "sol2", Some(json!(["x"])), "a string, found a list"),
        (
            "lambada_openai",
            "text",
            Some(json!(1.5)),
            "a string, found 1.5",
        ),
        ("mmlu", "subject", None, "a string, found none"),
        (
            "mmlu",
            "choices",
            Some(json!(["1", "2", "3"])),
            "4 strings, found 3",
        ),
    ]);
}

#[test]
fn a_right_answer_that_is_no_choice_is_an_error() {
    let labels = "one of [\"1\", \"2\", \"3\"], found another string";
    assert_errors(&[
        (
            "boolq",
            "label",
            Some(json!(-1)),
            "an integer from 0 to 1, found -1",
        ),
        (
            "rte",
            "label",
            Some(json!(2)),
            "an integer from 0 to 1, found 2",
        ),
        (
            "mmlu",
            "answer",
            Some(json!(4)),
            "an integer from 0 to 3, found 4",
        ),
        ("arc_easy", "answerKey", Some(json!("D")), labels),
        (
            "winogrande",
            "answer",
            Some(json!("3")),
            "one of [\"1\", \"2\"], found another string",
        ),
        (
            "hellaswag",
            "label",
            Some(json!("")),
            "one of [\"0\", \"1\", \"2\", \"3\"], found another string",
        ),
    ]);
}

#[test]
fn a_winogrande_sentence_without_a_blank_is_an_error() {
    assert_errors(&[(
        "winogrande",
        "sentence",
        Some(json!("No gap.")),
        "a blank (_) in the sentence, found none",
    )]);
}

#[test]
fn labels_must_name_every_choice() {
    let mut wrong = row("openbookqa");
    wrong["choices"]["label"] = json!(["A"]);
    let task = Task::find("openbookqa").unwrap();
    let error = task.documents(&[wrong], Shots::NONE, None).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("column \"choices.label\": expected 2 strings, found 1"),
        "{error}"
    );
}

#[test]
fn a_wrong_example_names_the_split_it_is_of() {
    let mut wrong = row("mmlu");
    wrong["answer"] = json!(9);
    let shots = Shots {
        count: 5,
        pool: &[wrong],
    };
    let error = Task::find("mmlu")
        .unwrap()
        .documents(&[row("mmlu")], shots, None);
    assert_eq!(
        error.unwrap_err().to_string(),
        "task \"mmlu\": document 0 of split \"dev\": column \"answer\": expected an integer from 0 to 3, found 9"
    );
}
