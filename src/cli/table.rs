//! Results as a table for people.

use crate::domain::Manifest;
use crate::domain::results::PerplexityResult;

/// Columns as wide as their widest cell; numbers to the right.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
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
pub(super) fn of_manifest(manifest: &Manifest) -> String {
    let mut rows = vec![vec![
        "perplexity".to_owned(),
        "dense".to_owned(),
        "pruned".to_owned(),
        "ratio".to_owned(),
        "windows".to_owned(),
    ]];
    rows.extend(manifest.results.perplexity.iter().map(perplexity_row));
    let mut text = String::new();
    if rows.len() > 1 {
        text.push_str(&columns(&rows));
        text.push('\n');
    }
    let sparsity = manifest.sparsity;
    let seconds = manifest.timings_s.get("total").copied().unwrap_or_default();
    text.push_str(&columns(&[
        vec![
            "method".to_owned(),
            format!("{} {}", manifest.method, manifest.pattern),
        ],
        vec![
            "sparsity".to_owned(),
            format!(
                "{:.4} of {} linears",
                sparsity.achieved,
                manifest.linears.len()
            ),
        ],
        vec!["size".to_owned(), bytes(manifest.model.size_bytes)],
        vec!["time".to_owned(), format!("{seconds:.1} s")],
        vec!["peak memory".to_owned(), bytes(manifest.peak_rss_bytes)],
        vec!["digest".to_owned(), manifest.digest.clone()],
    ]));
    text
}

fn perplexity_row(result: &PerplexityResult) -> Vec<String> {
    let number = |value: Option<f64>| {
        value.map_or_else(
            || "-".to_owned(),
            |value| {
                if value < 1e6 {
                    format!("{value:.3}")
                } else {
                    format!("{value:.3e}")
                }
            },
        )
    };
    let ratio = result
        .before
        .zip(result.after)
        .map(|(before, after)| after / before);
    let windows = format!("{} of {}", result.windows, result.seq_len);
    vec![
        result.dataset.clone(),
        number(result.before),
        number(result.after),
        number(ratio),
        windows,
    ]
}

/// The perplexities of one model.
pub(super) fn of_evaluation(results: &[PerplexityResult]) -> String {
    let mut rows = vec![vec![
        "text".to_owned(),
        "perplexity".to_owned(),
        "windows".to_owned(),
    ]];
    rows.extend(results.iter().map(|result| {
        let row = perplexity_row(result);
        vec![row[0].clone(), row[2].clone(), row[4].clone()]
    }));
    columns(&rows)
}

/// A size in binary units.
pub(super) fn bytes(count: u64) -> String {
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
