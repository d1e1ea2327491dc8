//! The committed description of the API is the one that the routes give.

use secateur::domain::ErrorCode;
use serde_json::Value;

fn committed() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json")).unwrap()
}

#[test]
fn the_committed_document_is_current() {
    let generated = format!("{:#}\n", secateur::http::document());
    assert!(
        committed() == generated,
        "openapi/openapi.json differs from the routes: run `cargo run -- openapi --write openapi/openapi.json`"
    );
}

#[test]
fn every_error_response_is_a_problem_with_an_example() {
    let document: Value = serde_json::from_str(&committed()).unwrap();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let shared = response["$ref"].as_str().unwrap_or("#");
                let shared = document.pointer(&shared[1..]).unwrap();
                let response = if shared.get("paths").is_some() {
                    response
                } else {
                    shared
                };
                if status.starts_with(['4', '5'])
                    && response["content"].get("application/json").is_none()
                {
                    let example = &response["content"]["application/problem+json"]["example"];
                    assert_eq!(example["status"].to_string(), *status, "{method} {path}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn every_code_is_in_the_table_of_the_api_page() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/API.md")).unwrap();
    for code in ErrorCode::ALL {
        assert!(
            page.contains(&format!("| `{code}` |")),
            "{code} is missing in docs/API.md"
        );
    }
}
