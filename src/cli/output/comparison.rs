//! The results of several models side by side.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::table;
use crate::domain::report::manifest::{EvaluationReport, Manifest, ModelProvenance};
use crate::domain::report::results::{Estimate, Results};
use crate::pipeline::weights_digest;

/// How a comparison is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum TableFormat {
    /// Aligned columns.
    Table,
    /// Comma-separated values, in full precision.
    Csv,
    /// A Markdown table.
    Markdown,
}

/// A row for each model, a column for each number. Numbers of different protocols stand in different columns.
#[derive(Debug, Default)]
pub(in crate::cli) struct Comparison {
    columns: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Column {
    /// What the numbers depend on.
    key: String,
    title: String,
}

#[derive(Debug)]
struct Row {
    label: String,
    /// Tells it from other rows of its label; empty for what was named on the command line.
    version: String,
    cells: BTreeMap<String, f64>,
}

/// A number that was measured of a model and of the one before it.
struct Number {
    key: String,
    title: String,
    before: Option<f64>,
    after: Option<f64>,
}

impl Comparison {
    /// Adds a pruned model, and the dense one above it unless it is there.
    pub(in crate::cli) fn add_pruned(&mut self, label: String, manifest: &Manifest) {
        let sparsity = Number {
            key: "sparsity".to_owned(),
            title: "sparsity".to_owned(),
            before: Some(0.0),
            after: Some(manifest.sparsity.achieved),
        };
        let dense = (&manifest.model, "dense");
        self.add(label, Some(dense), &manifest.results, [sparsity]);
    }

    /// Adds a model that was measured, and what it was compared with.
    pub(in crate::cli) fn add_measured(&mut self, label: String, report: &EvaluationReport) {
        let baseline = report.baseline.as_ref();
        let baseline = baseline.map(|baseline| (baseline, "baseline"));
        self.add(label, baseline, &report.results, []);
    }

    fn add<const N: usize>(
        &mut self,
        label: String,
        before: Option<(&ModelProvenance, &str)>,
        results: &Results,
        more: [Number; N],
    ) {
        let numbers: Vec<Number> = more.into_iter().chain(numbers(results)).collect();
        for number in &numbers {
            if self.columns.iter().all(|column| column.key != number.key) {
                self.columns.push(Column {
                    key: number.key.clone(),
                    title: number.title.clone(),
                });
            }
        }
        let cells = |value: fn(&Number) -> Option<f64>| {
            let cells = numbers.iter();
            cells.filter_map(move |number| Some((number.key.clone(), value(number)?)))
        };
        if let Some((model, role)) = before {
            let (label, version) = (format!("{} ({role})", model.id), version(model));
            let mut rows = self.rows.iter();
            let row = rows.position(|row| (&row.label, &row.version) == (&label, &version));
            let row = row.unwrap_or_else(|| {
                self.rows.push(Row {
                    label,
                    version,
                    cells: BTreeMap::new(),
                });
                self.rows.len() - 1
            });
            self.rows[row].cells.extend(cells(|number| number.before));
        }
        self.rows.push(Row {
            label,
            version: String::new(),
            cells: cells(|number| number.after).collect(),
        });
    }

    /// The text of the comparison.
    pub(in crate::cli) fn write(&self, format: TableFormat) -> String {
        match format {
            TableFormat::Table => table::columns(&self.cells(|value| table::number(Some(value)))),
            TableFormat::Csv => lines(&self.cells(|value| value.to_string()), |row| {
                row.iter()
                    .map(|cell| quoted(cell))
                    .collect::<Vec<_>>()
                    .join(",")
            }),
            TableFormat::Markdown => {
                let mut rows = self.cells(|value| table::number(Some(value)));
                let rule = |i| if i == 0 { "---" } else { "---:" }.to_owned();
                rows.insert(1, (0..=self.columns.len()).map(rule).collect());
                lines(&rows, |row| format!("| {} |", row.join(" | ")))
            }
        }
    }

    /// The head and every row; a number that was not measured is empty.
    fn cells(&self, number: impl Fn(f64) -> String) -> Vec<Vec<String>> {
        let titles = self.columns.iter().map(|column| column.title.clone());
        let head = std::iter::once("model".to_owned()).chain(titles).collect();
        let rows = self.rows.iter().map(|row| {
            let cells = self.columns.iter().map(|column| {
                let value = row.cells.get(&column.key);
                value.map_or_else(String::new, |value| number(*value))
            });
            std::iter::once(self.label(row)).chain(cells).collect()
        });
        std::iter::once(head).chain(rows).collect()
    }

    /// A row's label, with its version where another row would look the same.
    fn label(&self, row: &Row) -> String {
        let is_alike = |other: &&Row| other.label == row.label && other.version != row.version;
        match self.rows.iter().find(is_alike) {
            Some(_) if !row.version.is_empty() => format!("{} {}", row.label, row.version),
            _ => row.label.clone(),
        }
    }
}

/// What tells models of one name apart: the commit and the digest of the weights, both short.
fn version(model: &ModelProvenance) -> String {
    let weights = weights_digest(&model.files);
    let parts = model.commit.iter().chain([&weights]);
    let short = |part: &String| part.chars().take(7).collect::<String>();
    parts.map(short).collect::<Vec<_>>().join(" ")
}

fn numbers(results: &Results) -> Vec<Number> {
    let value = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.value);
    let mut numbers = Vec::new();
    for text in &results.perplexity {
        let name = format!("{} {} × {}", text.dataset, text.windows, text.seq_len);
        let kl = text.divergence.map(|divergence| divergence.kl);
        numbers.push(Number {
            key: text.protocol_id.clone(),
            title: format!("perplexity {name}"),
            before: text.before,
            after: text.after,
        });
        if kl.is_some() {
            numbers.push(Number {
                key: format!("KL {}", text.protocol_id),
                title: "KL".to_owned(),
                before: None,
                after: kl,
            });
        }
    }
    for task in &results.tasks {
        numbers.extend(task.metrics.iter().map(|metric| Number {
            key: format!("{} {}", metric.metric, task.protocol.id()),
            title: format!("{} {}", task.protocol.fields().task, metric.metric),
            before: value(metric.before),
            after: value(metric.after),
        }));
    }
    numbers.extend(results.mean.as_ref().map(|mean| Number {
        key: format!("mean {} {}", mean.metric, mean.tasks.join(",")),
        title: format!("mean {}", mean.metric),
        before: value(mean.before),
        after: value(mean.after),
    }));
    numbers
}

fn lines(rows: &[Vec<String>], line: impl Fn(&[String]) -> String) -> String {
    rows.iter().map(|row| line(row) + "\n").collect()
}

/// A value of a CSV file.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::report::manifest::FileEntry;

    fn report(protocol: &str, before: Option<f64>, after: f64) -> EvaluationReport {
        let model = |id: &str| {
            json!({
                "source": "local", "id": id, "commit": null, "architecture": "any", "blocks": 1, "parameters": 1,
                "size_bytes": 1, "files": [],
            })
        };
        let perplexity = json!({
            "protocol_id": protocol, "dataset": "text", "text_sha256": "", "protocol": "paper", "seq_len": 64,
            "windows": 8, "tokens": 512, "dtype": "f32", "device": "cpu", "before": before, "after": after,
        });
        let report = json!({
            "tool_version": "1", "model": model("model"), "baseline": before.map(|_| model("base")),
            "results": {"perplexity": [perplexity]}, "device": "cpu", "compute_dtype": "f32", "timings_s": {},
            "peak_rss_bytes": 1,
        });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn numbers_of_different_protocols_stand_in_different_columns() {
        let mut comparison = Comparison::default();
        comparison.add_measured("a".to_owned(), &report("one", Some(5.0), 6.25));
        comparison.add_measured("b, again".to_owned(), &report("one", Some(5.0), 7.5));
        comparison.add_measured("c".to_owned(), &report("other", None, 8.0));
        let title = "perplexity text 8 × 64";
        let expected = format!(
            "model,{title},{title}\nbase (baseline),5,\na,6.25,\n\"b, again\",7.5,\nc,,8\n"
        );
        assert_eq!(comparison.write(TableFormat::Csv), expected);
        let markdown = comparison.write(TableFormat::Markdown);
        assert_eq!(markdown.lines().nth(1), Some("| --- | ---: | ---: |"));
        assert_eq!(markdown.lines().nth(3), Some("| a | 6.250 |  |"));
        let table = comparison.write(TableFormat::Table);
        assert_eq!(table.lines().count(), 5, "{table}");
    }

    #[test]
    fn models_of_one_name_and_other_weights_have_rows_of_their_own() {
        let of = |before: f64, commit: Option<&str>, sha256: &str| {
            let mut report = report("one", Some(before), 9.0);
            let baseline = report.baseline.as_mut().unwrap();
            baseline.commit = commit.map(str::to_owned);
            baseline.files = vec![FileEntry {
                name: "model.safetensors".to_owned(),
                size_bytes: 1,
                sha256: sha256.to_owned(),
            }];
            report
        };
        let mut comparison = Comparison::default();
        for (label, report) in [
            ("a", of(5.0, None, "1234567890")),
            ("b", of(6.0, None, "abcdef0123")),
            ("c", of(5.0, None, "1234567890")),
            ("d", of(7.0, Some("c0ffee1234"), "1234567890")),
        ] {
            comparison.add_measured(label.to_owned(), &report);
        }
        let written = comparison.write(TableFormat::Csv);
        let lines: Vec<&str> = written.lines().skip(1).collect();
        let [first, "a,9", second, "b,9", "c,9", third, "d,9"] = lines[..] else {
            panic!("{written}")
        };
        for (line, value) in [(first, ",5"), (second, ",6"), (third, ",7")] {
            assert!(
                line.starts_with("base (baseline) ") && line.ends_with(value),
                "{line}"
            );
        }
        assert!(third.contains(" c0ffee1 "), "{third}");
    }
}
