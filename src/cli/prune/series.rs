//! The artifacts of one run: every method with every pattern and sparsity.

use anyhow::bail;

use crate::engine::{Goal, Pattern, Pruning, Targets};

/// One artifact.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) pruning: Pruning,
}

impl Point {
    /// The name of its directory in a series, such as `wanda-0.5` or `wanda-2-4`.
    pub(super) fn name(&self) -> String {
        let Goal {
            pattern, sparsity, ..
        } = self.pruning.targets.goal;
        let recipe = self.pruning.work().to_string().replace(" + ", "-");
        let pattern_name = pattern.to_string().replace(':', "-");
        match pattern.implied_sparsity() {
            Some(_) => format!("{recipe}-{pattern_name}"),
            None if pattern == Pattern::default() => format!("{recipe}-{sparsity}"),
            None => format!("{recipe}-{pattern_name}-{sparsity}"),
        }
    }
}

/// Every combination. A sparsity is for the patterns that have none of their own, and must agree with those that do
/// where there are no others.
pub(super) fn points(
    prunings: &[Pruning],
    patterns: &[Pattern],
    sparsities: &[f64],
) -> anyhow::Result<Vec<Point>> {
    if let Some(wrong) = sparsities.iter().find(|ratio| !(0.0..1.0).contains(*ratio)) {
        bail!("invalid_request: --sparsity is {wrong}, expected a fraction in [0, 1)");
    }
    let open = patterns
        .iter()
        .find(|pattern| pattern.implied_sparsity().is_none());
    let mut goals = Vec::new();
    for &pattern in patterns {
        let Some(implied) = pattern.implied_sparsity() else {
            goals.extend(
                sparsities
                    .iter()
                    .map(|&sparsity| Goal::new(pattern, sparsity)),
            );
            continue;
        };
        let disagrees = |ratio: &&f64| (**ratio - implied).abs() > 1e-9;
        if open.is_none()
            && let Some(ratio) = sparsities.iter().find(disagrees)
        {
            bail!(
                "invalid_request: --sparsity {ratio} disagrees with the pattern {pattern}, which has {implied}"
            );
        }
        goals.push(Goal::new(pattern, implied));
    }
    if let Some(open) = open.filter(|_| sparsities.is_empty()) {
        bail!("invalid_request: --sparsity is needed with the {open} pattern");
    }
    let mut points: Vec<Point> = Vec::new();
    for pruning in prunings {
        for &goal in &goals {
            let targets = Targets {
                goal,
                ..pruning.targets.clone()
            };
            let pruning = Pruning {
                targets,
                ..pruning.clone()
            };
            let point = Point { pruning };
            if points.contains(&point) {
                bail!("invalid_request: {} is asked for twice", point.name());
            }
            points.push(point);
        }
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PruningMethod;

    fn names(patterns: &[&str], sparsities: &[f64]) -> anyhow::Result<Vec<String>> {
        let patterns: Vec<Pattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        let points = points(&[PruningMethod::default().into()], &patterns, sparsities)?;
        Ok(points.iter().map(Point::name).collect())
    }

    #[test]
    fn a_sparsity_is_for_the_patterns_without_one() {
        assert_eq!(
            names(&["unstructured", "2:4"], &[0.5, 0.6]).unwrap(),
            ["wanda-0.5", "wanda-0.6", "wanda-2-4"]
        );
        assert_eq!(names(&["2:4"], &[0.5]).unwrap(), ["wanda-2-4"]);
        for (patterns, sparsities) in [
            (&["unstructured"][..], &[][..]),
            (&["unstructured", "2:4"], &[]),
            (&["2:4"], &[0.6]),
            (&["unstructured"], &[0.5, 0.5]),
            (&["unstructured"], &[1.0]),
        ] {
            assert!(
                names(patterns, sparsities).is_err(),
                "{patterns:?} {sparsities:?}"
            );
        }
    }
}
