//! Results as a table for people.

use crate::domain::report::manifest::{LinearReport, Manifest, StructureReport};
use crate::domain::report::results::{Difference, Estimate, Results};
use crate::engine::Propagation;

/// Columns as wide as their widest cell; numbers to the right.
pub(in crate::cli) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = (0..count)
            .map(|column| {
                let cell = row.get(column).map_or("", String::as_str);
                let width = width(column);
                if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        text.push_str("  ");
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// What a pruning did, in a few lines.
pub(in crate::cli) fn of_manifest(manifest: &Manifest) -> String {
    let mut text = of_results(&manifest.results, ["dense", "pruned"]);
    if !text.is_empty() {
        text.push('\n');
    }
    let sparsity = manifest.sparsity;
    let seconds = manifest.timings_s.get("total").copied().unwrap_or_default();
    let mut rows = vec![
        vec![
            "method".to_owned(),
            match &manifest.structure {
                Some(_) => manifest.method.clone(),
                None => format!("{} {}", recipe(manifest), manifest.pattern),
            },
        ],
        vec![
            "sparsity".to_owned(),
            if let Some(structure) = &manifest.structure {
                let parts = structure.parts.len();
                format!("{:.4} of {parts} parts", sparsity.achieved)
            } else {
                let linears = manifest.linears.len();
                format!("{:.4} of {linears} linears", sparsity.achieved)
            },
        ],
        vec!["size".to_owned(), size(manifest)],
        vec!["time".to_owned(), format!("{seconds:.1} s")],
        vec!["peak memory".to_owned(), bytes(manifest.peak_rss_bytes)],
        vec!["digest".to_owned(), manifest.digest.clone()],
    ];
    let rules: Vec<String> = manifest.rules.iter().map(ToString::to_string).collect();
    if !rules.is_empty() {
        rows.insert(1, vec!["rules".to_owned(), rules.join(", ")]);
    }
    if !manifest.allocation.is_uniform() {
        rows.insert(1, vec!["allocation".to_owned(), allocation(manifest)]);
    }
    rows.extend(layer_error(manifest).map(|error| vec!["layer error".to_owned(), error]));
    text.push_str(&columns(&rows));
    text
}

/// Bytes of the weights; where parts were removed, before and after, with what became of the pace.
fn size(manifest: &Manifest) -> String {
    let Some(StructureReport { before, after, .. }) = &manifest.structure else {
        return bytes(manifest.model.size_bytes);
    };
    format!(
        "{} to {}, {} to {} parameters, {:.0} to {:.0} tokens/s through the blocks",
        bytes(before.size_bytes),
        bytes(after.size_bytes),
        before.parameters,
        after.parameters,
        before.tokens_per_second,
        after.tokens_per_second
    )
}

/// The method, and what followed it.
pub(in crate::cli) fn recipe(manifest: &Manifest) -> String {
    let group = manifest.group.map(|group| format!("per {group}"));
    let refit = manifest.refit.then_some("refit");
    let propagation = manifest.propagation;
    let propagation = (propagation != Propagation::default()).then(|| propagation.name());
    let parts = [
        Some(manifest.method.as_str()),
        group.as_deref(),
        manifest.refine.as_deref(),
        refit,
        propagation,
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" + ")
}

/// Its name, and how far the sparsities of the blocks are apart.
fn allocation(manifest: &Manifest) -> String {
    let blocks = manifest.block_sparsity.iter().copied();
    let least = blocks.clone().fold(f64::INFINITY, f64::min);
    let most = blocks.fold(f64::NEG_INFINITY, f64::max);
    let kind = manifest.allocation.kind;
    format!("{kind}, blocks from {least:.4} to {most:.4}")
}

/// The mean over all linears, and what it was before the refit.
fn layer_error(manifest: &Manifest) -> Option<String> {
    let mean = |of: fn(&LinearReport) -> Option<f64>| {
        let sum: Option<f64> = manifest.linears.iter().map(of).sum();
        sum.map(|sum| format!("{:.4}", sum / manifest.linears.len() as f64))
    };
    let after = mean(|linear| linear.layer_error)?;
    Some(match mean(|linear| linear.layer_error_before_refit) {
        Some(before) => format!("{after}, before the refit {before}"),
        None => after,
    })
}

/// What was measured, one table for each kind of number; `names` stand above `before` and `after`.
pub(in crate::cli) fn of_results(results: &Results, names: [&str; 2]) -> String {
    let has_before = results.perplexity.iter().any(|row| row.before.is_some())
        || results
            .mean
            .as_ref()
            .is_some_and(|mean| mean.before.is_some())
        || results
            .tasks
            .iter()
            .flat_map(|task| &task.metrics)
            .any(|row| row.before.is_some());
    let tables = [
        perplexity(results, names, has_before),
        tasks(results, names, has_before),
        generations(results, names),
        warnings(results),
    ];
    let tables: Vec<String> = tables
        .into_iter()
        .filter(|table| !table.is_empty())
        .collect();
    tables.join("\n")
}

/// A row of words; `None` where there is one model and nothing to compare.
fn row<const N: usize>(cells: [(&str, bool); N]) -> Vec<String> {
    let shown = cells.into_iter().filter(|(_, is_shown)| *is_shown);
    shown.map(|(cell, _)| cell.to_owned()).collect()
}

fn perplexity(results: &Results, [before, after]: [&str; 2], pair: bool) -> String {
    if results.perplexity.is_empty() {
        return String::new();
    }
    let head = [
        ("perplexity", true),
        (before, pair),
        (after, true),
        ("ratio", pair),
        ("KL", pair),
        ("windows", true),
    ];
    let mut rows = vec![row(head)];
    rows.extend(results.perplexity.iter().map(|result| {
        let ratio = result
            .before
            .zip(result.after)
            .map(|(before, after)| after / before);
        let kl = result.divergence.map(|divergence| divergence.kl);
        row([
            (&result.dataset, true),
            (&number(result.before), pair),
            (&number(result.after), true),
            (&number(ratio), pair),
            (&number(kl), pair),
            (&format!("{} of {}", result.windows, result.seq_len), true),
        ])
    }));
    columns(&rows)
}

fn tasks(results: &Results, [before, after]: [&str; 2], pair: bool) -> String {
    if results.tasks.is_empty() {
        return String::new();
    }
    let head = [
        ("task", true),
        ("metric", true),
        (before, pair),
        (after, true),
        ("difference, 95 %", pair),
        ("lost / won", pair),
        ("n", true),
    ];
    let mut rows = vec![row(head)];
    for task in &results.tasks {
        for (i, metric) in task.metrics.iter().enumerate() {
            let flips = task
                .flips
                .filter(|_| i == 0)
                .map_or_else(String::new, |flips| {
                    format!("{} / {}", flips.right_to_wrong, flips.wrong_to_right)
                });
            let n = if i == 0 {
                task.protocol.fields().n.to_string()
            } else {
                String::new()
            };
            rows.push(row([
                (
                    if i == 0 {
                        &task.protocol.fields().task
                    } else {
                        ""
                    },
                    true,
                ),
                (&metric.metric, true),
                (&estimate(metric.before), pair),
                (&estimate(metric.after), true),
                (&difference(metric.difference.as_ref()), pair),
                (&flips, pair),
                (&n, true),
            ]));
        }
    }
    if let Some(mean) = &results.mean {
        rows.push(row([
            ("mean", true),
            (&mean.metric, true),
            (&estimate(mean.before), pair),
            (&estimate(mean.after), true),
            (&difference(mean.difference.as_ref()), pair),
            ("", pair),
            (&format!("{} tasks", mean.tasks.len()), true),
        ]));
    }
    columns(&rows)
}

fn generations(results: &Results, [before, after]: [&str; 2]) -> String {
    let mut lines = Vec::new();
    for generation in &results.generations {
        lines.push(format!("  {:?}\n", generation.prompt));
        for (name, written) in [(before, &generation.before), (after, &generation.after)] {
            let line = |text: &str| format!("    {name}: {:?}\n", text.trim());
            lines.extend(written.as_ref().map(|written| line(&written.text)));
        }
    }
    lines.concat()
}

fn warnings(results: &Results) -> String {
    let lines = results
        .warnings
        .iter()
        .map(|warning| format!("  warning: {}\n", warning.message));
    lines.collect()
}

pub(super) fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 1e6 => format!("{value:.3}"),
        Some(value) => format!("{value:.3e}"),
    }
}

fn estimate(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "-".to_owned(),
        Some(Estimate {
            value,
            stderr: None,
        }) => number(Some(value)),
        Some(Estimate {
            value,
            stderr: Some(stderr),
        }) => format!("{} ± {stderr:.3}", number(Some(value))),
    }
}

fn difference(difference: Option<&Difference>) -> String {
    difference.map_or_else(
        || "-".to_owned(),
        |difference| {
            format!(
                "{:+.3} [{:+.3}, {:+.3}]",
                difference.value, difference.low, difference.high
            )
        },
    )
}

/// A time that people read: seconds, minutes or hours.
pub(in crate::cli) fn duration(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        ..5_400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

/// A size in binary units.
pub(in crate::cli) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "1"], ["long", "22.5"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "  a         1\n  long   22.5\n");
    }
}
