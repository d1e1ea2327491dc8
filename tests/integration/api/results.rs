//! What a succeeded job can be asked for.

use std::io::Read as _;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::test_app::{TestApp, manifest};

async fn succeeded() -> (TestApp, String) {
    let app = TestApp::with_worker().await;
    let id = app.submit("succeed").await;
    app.job_with_status(&id, "succeeded").await;
    (app, id)
}

#[tokio::test]
async fn results_are_short_and_the_report_is_the_manifest() {
    let (app, id) = succeeded().await;
    let results = app.get(&format!("/v1/jobs/{id}/results")).await.json();
    assert_eq!(results["digest"], "d1ce");
    assert_eq!(
        results["sparsity"],
        json!({"requested": 0.5, "achieved": 0.5})
    );
    assert_eq!(results["artifact_count"], 2);
    // The stub's pruned model has a perplexity that is no number.
    let perplexity = &results["perplexity"][0];
    assert_eq!(
        (&perplexity["before"], &perplexity["after"]),
        (&json!(10.5), &Value::Null)
    );
    assert_eq!(perplexity["non_finite"], true);
    assert_eq!(results["generations"], json!([]));
    let mut short = results;
    // The job has the warnings itself.
    for field in ["generations", "warnings"] {
        assert!(short.as_object_mut().unwrap().remove(field).is_some());
    }
    assert_eq!(
        app.get(&format!("/v1/jobs/{id}")).await.json()["results"],
        short
    );

    let report = app.get(&format!("/v1/jobs/{id}/report")).await.json();
    let mut expected = serde_json::to_value(manifest()).unwrap();
    expected["type"] = json!("prune");
    assert_eq!(report, expected);
    app.stop().await;
}

#[tokio::test]
async fn every_file_is_listed_with_its_digest_and_can_be_downloaded() {
    let (app, id) = succeeded().await;
    let files = app.get(&format!("/v1/jobs/{id}/artifacts")).await.json()["data"].clone();
    let names: Vec<_> = files
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["model.safetensors", "secateur.json"]);
    for file in files.as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        let download = app.get(&format!("/v1/jobs/{id}/artifacts/{name}")).await;
        assert_eq!(download.status, StatusCode::OK);
        assert_eq!(download.body.len() as u64, file["size_bytes"]);
        assert_eq!(
            hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&download.body)),
            file["sha256"].as_str().unwrap()
        );
        assert_eq!(
            download.header("etag"),
            format!("\"{}\"", file["sha256"].as_str().unwrap())
        );
        assert_eq!(
            download.header("content-disposition"),
            format!("attachment; filename=\"{name}\"")
        );
        assert_eq!(download.header("x-content-type-options"), "nosniff");
        assert_eq!(download.header("accept-ranges"), "bytes");
        let cache = "private, max-age=31536000, immutable";
        assert_eq!(download.header("cache-control"), cache);
    }
    app.stop().await;
}

#[tokio::test]
async fn all_files_are_one_archive_that_can_be_resumed() {
    let (app, id) = succeeded().await;
    let path = format!("/v1/jobs/{id}/archive");
    let whole = app.get(&path).await;
    assert_eq!(whole.status, StatusCode::OK);
    assert_eq!(whole.header("content-type"), "application/x-tar");
    assert_eq!(whole.header("content-length"), whole.body.len().to_string());
    let mut archive = tar::Archive::new(&whole.body[..]);
    let files = app.get(&format!("/v1/jobs/{id}/artifacts")).await.json();
    let mut entries = archive.entries().unwrap();
    for file in files["data"].as_array().unwrap() {
        let mut entry = entries.next().unwrap().unwrap();
        let name = format!("{id}/{}", file["name"].as_str().unwrap());
        assert_eq!(entry.path().unwrap().to_str(), Some(&name[..]));
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&content));
        assert_eq!(file["sha256"], sha256);
    }
    assert!(entries.next().is_none());

    let tag = whole.header("etag");
    for from in [0, 100, 511, 512, 700, whole.body.len() - 1] {
        let request = app.request(Method::GET, &path).header("if-range", tag);
        let rest = app
            .send(request.header("range", format!("bytes={from}-")))
            .await;
        assert_eq!(rest.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(rest.body, whole.body[from..], "{from}");
    }
    let known = app.request(Method::GET, &path).header("if-none-match", tag);
    assert_eq!(app.send(known).await.status, StatusCode::NOT_MODIFIED);
    let head = app.send(app.request(Method::HEAD, &path)).await;
    assert_eq!(head.header("content-length"), whole.body.len().to_string());
    app.stop().await;
}

#[tokio::test]
async fn a_download_can_be_resumed_checked_and_spared() {
    let (app, id) = succeeded().await;
    let path = format!("/v1/jobs/{id}/artifacts/model.safetensors");
    let etag = app.get(&path).await.header("etag").to_owned();
    let ask = async |headers: &[(&str, &str)]| {
        let mut request = app.request(Method::GET, &path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        app.send(request).await
    };

    for (range, body, content_range) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
    ] {
        let part = ask(&[("range", range)]).await;
        assert_eq!(
            (part.status, part.body.as_slice()),
            (StatusCode::PARTIAL_CONTENT, body.as_bytes())
        );
        assert_eq!(
            (part.header("content-range"), part.header("content-length")),
            (content_range, &*body.len().to_string())
        );
    }
    let outside = ask(&[("range", "bytes=10-")]).await;
    assert_eq!(
        (outside.status.as_u16(), outside.header("content-range")),
        (416, "bytes */10")
    );
    assert_eq!(outside.json()["code"], "range_not_satisfiable");

    let changed = ask(&[("range", "bytes=2-4"), ("if-range", "\"other\"")]).await;
    assert_eq!((changed.status, changed.body.len()), (StatusCode::OK, 10));
    let same = ask(&[("range", "bytes=2-4"), ("if-range", &etag)]).await;
    assert_eq!(same.status, StatusCode::PARTIAL_CONTENT);
    let known = ask(&[("if-none-match", &etag)]).await;
    assert_eq!(
        (known.status, known.body.len()),
        (StatusCode::NOT_MODIFIED, 0)
    );

    let head = app.send(app.request(Method::HEAD, &path)).await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (StatusCode::OK, "10", 0)
    );
    let head = app
        .request(Method::HEAD, &path)
        .header("range", "bytes=2-4");
    let head = app.send(head).await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (StatusCode::OK, "10"),
        "ranges are for GET alone"
    );
    app.stop().await;
}

#[tokio::test]
async fn a_file_that_lost_bytes_is_a_defect_of_the_server() {
    let (app, id) = succeeded().await;
    let stored = app.home().join("artifacts");
    let mut dirs = vec![stored];
    let file = loop {
        let dir = dirs.pop().unwrap();
        let file = dir.join("model.safetensors");
        if file.is_file() {
            break file;
        }
        let entries = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        dirs.extend(entries.filter(|path| path.is_dir()));
    };
    std::fs::write(file, "short").unwrap();
    let answer = app
        .get(&format!("/v1/jobs/{id}/artifacts/model.safetensors"))
        .await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.json()["code"], "internal");
    app.stop().await;
}

#[tokio::test]
async fn a_name_that_is_not_in_the_list_is_not_found() {
    let (app, id) = succeeded().await;
    for name in [
        "nothing",
        "..%2f..%2fsecateur.db",
        "%2e%2e",
        "model.safetensors%00",
        "MODEL.SAFETENSORS",
    ] {
        let answer = app.get(&format!("/v1/jobs/{id}/artifacts/{name}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}");
    }
    app.stop().await;
}
