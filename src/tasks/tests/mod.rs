//! Every task on documents made by hand, and on documents that are wrong.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

mod wrong;

fn items(name: &str, rows: &[Value], shots: Shots<'_>, limit: Option<usize>) -> Vec<Item> {
    match Task::find(name).unwrap().documents(rows, shots, limit) {
        Ok(Documents::Items(items)) => items,
        other => panic!("no items: {other:?}"),
    }
}

fn item(name: &str, row: Value) -> Item {
    let [item] = items(name, &[row], Shots::NONE, None).try_into().unwrap();
    item
}

fn texts(item: &Item) -> Vec<(&str, &str)> {
    let requests = item.requests.iter();
    requests
        .map(|request| (&*request.context, request.continuation.as_str()))
        .collect()
}

/// A correct row of each task that is scored by its requests.
fn row(name: &str) -> Value {
    match name {
        "boolq" => json!({"passage": "Tea -- A drink.", "question": "is tea a drink", "label": 1}),
        "rte" => json!({"sentence1": "It rains.", "sentence2": "It is wet.", "label": 0}),
        "hellaswag" => json!({
            "activity_label": "Baking", "ctx_a": "A man mixes. [title] Dough.", "ctx_b": "then HE",
            "endings": ["sings.", "[step] bakes it.", "é.", "runs."], "label": "2",
        }),
        "winogrande" => json!({
            "sentence": "The cup fell off the table because _ was wet.", "option1": "the cup", "option2": "the table",
            "answer": "2",
        }),
        "arc_easy" | "arc_challenge" => json!({
            "question": "What is hot?", "choices": {"text": ["ice", "fire", "air"], "label": ["1", "2", "3"]},
            "answerKey": "2",
        }),
        "openbookqa" => json!({
            "question_stem": "Bees make", "choices": {"text": ["honey", "wool"], "label": ["A", "B"]}, "answerKey": " A",
        }),
        "piqa" => {
            json!({"goal": "Open a jar", "sol1": "turn the lid", "sol2": "eat the lid", "label": 0})
        }
        "lambada_openai" => json!({"text": "He said “yes”.\nShe said no"}),
        "mmlu" => json!({
            "question": " 1 + 1? ", "subject": "abstract_algebra", "choices": ["1", "2", "3", "4"], "answer": 1,
        }),
        other => panic!("no row for {other}"),
    }
}

#[test]
fn documents_become_the_texts_of_the_harness() {
    let boolq = item("boolq", row("boolq"));
    let context = "Tea -- A drink.\nQuestion: is tea a drink?\nAnswer:";
    assert_eq!(texts(&boolq), [(context, " no"), (context, " yes")]);
    assert_eq!(boolq.gold, Some(1));
    assert_eq!(boolq.choice_chars, [2, 3]);

    let rte = item("rte", row("rte"));
    let context = "It rains.\nQuestion: It is wet. True or False?\nAnswer:";
    assert_eq!(texts(&rte), [(context, " True"), (context, " False")]);

    let hellaswag = item("hellaswag", row("hellaswag"));
    let context = "Baking: A man mixes.. Dough. Then he";
    let endings = [" sings.", "  bakes it.", " é.", " runs."];
    assert_eq!(texts(&hellaswag), endings.map(|ending| (context, ending)));
    assert_eq!(hellaswag.gold, Some(2));
    // The second has a space of its own; the third has three bytes.
    assert_eq!(hellaswag.choice_chars, [6, 10, 2, 5]);

    let winogrande = item("winogrande", row("winogrande"));
    let before = "The cup fell off the table because";
    let contexts = [format!("{before} the cup"), format!("{before} the table")];
    let expected = contexts
        .each_ref()
        .map(|context| (context.as_str(), " was wet."));
    assert_eq!(texts(&winogrande), expected);
    assert_eq!(winogrande.gold, Some(1));

    for name in ["arc_easy", "arc_challenge"] {
        let arc = item(name, row(name));
        let context = "Question: What is hot?\nAnswer:";
        assert_eq!(
            texts(&arc),
            [(context, " ice"), (context, " fire"), (context, " air")]
        );
        assert_eq!(arc.gold, Some(1));
    }

    let openbookqa = item("openbookqa", row("openbookqa"));
    assert_eq!(
        texts(&openbookqa),
        [("Bees make", " honey"), ("Bees make", " wool")]
    );
    assert_eq!(openbookqa.gold, Some(0));

    let piqa = item("piqa", row("piqa"));
    let context = "Question: Open a jar\nAnswer:";
    assert_eq!(
        texts(&piqa),
        [(context, " turn the lid"), (context, " eat the lid")]
    );

    let lambada = item("lambada_openai", row("lambada_openai"));
    assert_eq!(texts(&lambada), [("He said “yes”.\nShe said", " no")]);
    assert_eq!((lambada.gold, lambada.choice_chars), (None, vec![]));
}

#[test]
fn choices_of_one_document_share_their_context() {
    let boolq = item("boolq", row("boolq"));
    assert!(Arc::ptr_eq(
        &boolq.requests[0].context,
        &boolq.requests[1].context
    ));
}

#[test]
fn mmlu_takes_its_examples_and_its_limit_by_subject() {
    let question = |subject: &str, i: usize| {
        let question = format!("{subject} {i}?");
        json!({"question": question, "subject": subject, "choices": ["a", "b", "c", "d"], "answer": i % 4})
    };
    let of = |subject: &'static str| (0..6).map(move |i| question(subject, i));
    let test: Vec<Value> = of("high_school_physics").chain(of("law")).collect();
    let dev: Vec<Value> = of("law").chain(of("high_school_physics")).collect();
    let shots = Shots {
        count: 5,
        pool: &dev,
    };
    let built = items("mmlu", &test, shots, Some(2));
    let places: Vec<(usize, &str)> = built
        .iter()
        .map(|item| (item.doc_id, item.group.as_deref().unwrap()))
        .collect();
    let physics = "high_school_physics";
    assert_eq!(places, [(0, physics), (1, physics), (6, "law"), (7, "law")]);

    let choices = "A. a\nB. b\nC. c\nD. d\nAnswer:";
    let examples = ["A", "B", "C", "D", "A"].into_iter().enumerate();
    let examples: Vec<String> = examples
        .map(|(i, answer)| format!("{physics} {i}?\n{choices} {answer}\n\n"))
        .collect();
    let context = format!(
        "The following are multiple choice questions (with answers) about high school physics.\n\n\
         {}{physics} 1?\n{choices}",
        examples.concat()
    );
    let expected = [" A", " B", " C", " D"].map(|answer| (context.as_str(), answer));
    assert_eq!(texts(&built[1]), expected);

    let few = Shots {
        count: 5,
        pool: &dev[..8],
    };
    let error = Task::find("mmlu").unwrap().documents(&test, few, None);
    assert_eq!(
        error.unwrap_err().to_string(),
        "task \"mmlu\": 5 examples are needed for \"high_school_physics\", split \"dev\" has 2"
    );
}

#[test]
fn gsm8k_draws_its_examples_as_the_harness_does() {
    let row = |split: &str, i: usize| {
        let (question, answer) = (format!("{split} {i}?"), format!("It is {i}.\n#### {i}"));
        json!({"question": question, "answer": answer})
    };
    let train: Vec<Value> = (0..30).map(|i| row("train", i)).collect();
    let test: Vec<Value> = (0..2).map(|i| row("test", i)).collect();
    let task = Task::find("gsm8k").unwrap();
    let build = |count| {
        let shots = Shots {
            count,
            pool: &train,
        };
        match task.documents(&test, shots, None).unwrap() {
            Documents::Prompts(prompts) => prompts,
            other => panic!("no prompts: {other:?}"),
        }
    };
    assert_eq!(build(0)[0].text, "Question: test 0?\nAnswer:");
    // What the harness draws, version 0.4.13, from 30 examples.
    for (prompt, drawn) in build(5)
        .iter()
        .zip([[24, 14, 3, 0, 2], [29, 25, 18, 1, 21]])
    {
        let examples =
            drawn.map(|i| format!("Question: train {i}?\nAnswer: It is {i}.\n#### {i}\n\n"));
        let question = format!("Question: test {}?\nAnswer:", prompt.doc_id);
        assert_eq!(prompt.text, examples.concat() + &question);
    }

    let prompt = &build(0)[1];
    assert!(prompt.is_strict_match(" 1.\n#### 1\n\nQuestion: 2?\nAnswer: 2\n#### 2"));
    assert!(prompt.is_flexible_match(" It must be $1."));
    assert!(!prompt.is_strict_match(" It must be $1."));
    assert!(!prompt.is_flexible_match(" 1 or 2<|im_end|>1"));
    assert_eq!(prompt.answer("1</s>Question:"), "1");
}

#[test]
fn wikitext_is_limited_by_pages() {
    let lines = [" = A = \n", " a \n", " = B = \n", " b \n"];
    let rows = lines.map(|line| json!({ "text": line }));
    let task = Task::find("wikitext").unwrap();
    let pages = |limit| match task.documents(&rows, Shots::NONE, limit).unwrap() {
        Documents::Pages(pages) => pages,
        other => panic!("no pages: {other:?}"),
    };
    assert_eq!(pages(None).len(), 2);
    assert_eq!(pages(Some(1)).len(), 1);
    assert_eq!(pages(Some(1))[0].text, " = A =\na ");
    assert_eq!(task.row_limit(Some(1)), None);
    assert_eq!(Task::find("boolq").unwrap().row_limit(Some(1)), Some(1));
}

#[test]
fn tasks_refuse_what_they_are_not_defined_for() {
    let refused = |name: &str, count| {
        let shots = Shots { count, pool: &[] };
        let error = Task::find(name).unwrap().documents(&[], shots, None);
        error.unwrap_err().to_string()
    };
    assert_eq!(
        refused("boolq", 5),
        "task \"boolq\" runs with 0 examples, not 5"
    );
    assert_eq!(
        refused("wikitext", 1),
        "task \"wikitext\" runs with 0 examples, not 1"
    );
    assert_eq!(
        refused("gsm8k", 3),
        "task \"gsm8k\" runs with 5 or 0 examples, not 3"
    );
    assert_eq!(
        refused("humaneval", 0),
        "task \"humaneval\" cannot be run: it runs generated programs, which needs isolated code execution"
    );
    let refusals = Task::all().iter().filter(|task| task.refusal().is_some());
    assert_eq!(
        refusals.map(|task| task.name).collect::<Vec<_>>(),
        ["humaneval"]
    );
}

#[test]
fn names_find_one_task_or_the_papers_seven() {
    for task in Task::all() {
        assert!(
            std::ptr::eq(Task::find(task.name).unwrap(), task),
            "{} is there twice",
            task.name
        );
    }
    let seven = Task::named("seven").unwrap();
    let all = Task::all()[..7].iter();
    assert!(
        seven
            .iter()
            .map(|task| task.name)
            .eq(all.map(|task| task.name))
    );
    assert_eq!(Task::named("piqa").unwrap()[0].name, "piqa");
    assert!(Task::named("eight").is_none());
}

#[test]
fn every_split_is_pinned() {
    let own = Task::all().iter().map(|task| task.split);
    let examples = Task::all().iter().filter_map(|task| task.examples);
    for split in own.chain(examples.map(|examples| examples.split)) {
        let revision = split.hub.revision;
        let is_hex = revision
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        assert!(
            revision.len() == 40 && is_hex,
            "{}: {revision}",
            split.hub.repo
        );
        assert!(!split.hub.files.is_empty(), "{}", split.hub.repo);
    }
}
