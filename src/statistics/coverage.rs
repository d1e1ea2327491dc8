//! The seeded simulation: how often the 95 % intervals hold the truth.
//!
//! Worlds are made in which the truth is known; documents are drawn from them, the interval is formed, and it is
//! counted whether it holds the truth. `cargo test statistics::coverage -- --nocapture` prints every cell.

use super::intervals::bootstrap::{self, Sums};
use super::intervals::random::SplitMix64;
use super::intervals::score_interval::{Changes, score_interval};
use super::losses::Loss;
use crate::tasks::Scale;

const DOCUMENTS: [usize; 4] = [50, 100, 300, 1000];

/// Probabilities of a document becoming right and of becoming wrong.
type World = (f64, f64);

/// Share of `replicates` for which `holds_truth`.
fn coverage(replicates: usize, mut holds_truth: impl FnMut() -> bool) -> f64 {
    (0..replicates).filter(|_| holds_truth()).count() as f64 / replicates as f64
}

/// Prints the cells and holds them and their mean against bounds.
fn check(what: &str, cells: &[(String, f64)], each: (f64, f64)) {
    for (cell, covered) in cells {
        eprintln!("{what}, {cell}: {:.1} %", covered * 100.0);
    }
    let mean = cells.iter().map(|(_, covered)| covered).sum::<f64>() / cells.len() as f64;
    eprintln!(
        "{what}, mean of {} cells: {:.2} %",
        cells.len(),
        mean * 100.0
    );
    assert!((0.93..=0.97).contains(&mean), "{what}: {mean}");
    for (cell, covered) in cells {
        assert!(
            (each.0..=each.1).contains(covered),
            "{what}, {cell}: {covered}"
        );
    }
}

fn draw_changes(random: &mut SplitMix64, n: usize, (gain, lose): World) -> Changes {
    let mut changes = Changes {
        gained: 0,
        lost: 0,
        n,
    };
    for _ in 0..n {
        let u = random.unit();
        if u < gain {
            changes.gained += 1;
        } else if u < gain + lose {
            changes.lost += 1;
        }
    }
    changes
}

/// Coverage of the interval for the mean over tasks of these sizes and worlds.
fn score_coverage(random: &mut SplitMix64, tasks: &[(usize, World)], replicates: usize) -> f64 {
    let truth = tasks
        .iter()
        .map(|(_, (gain, lose))| gain - lose)
        .sum::<f64>()
        / tasks.len() as f64;
    coverage(replicates, || {
        let changes: Vec<Changes> = tasks
            .iter()
            .map(|&(n, world)| draw_changes(random, n, world))
            .collect();
        let (_, low, high) = score_interval(&changes);
        low <= truth && truth <= high
    })
}

#[test]
fn score_intervals_of_accuracy_differences_hold_the_truth_95_times_of_100() {
    let worlds = [
        (0.05, 0.05),
        (0.10, 0.10),
        (0.20, 0.20),
        (0.03, 0.08),
        (0.05, 0.15),
        (0.10, 0.25),
        (0.05, 0.40),
    ];
    let mut random = SplitMix64::new(1);
    let mut cells = Vec::new();
    for n in DOCUMENTS {
        for world in worlds {
            let covered = score_coverage(&mut random, &[(n, world)], 2000);
            cells.push((format!("n = {n}, gain and loss {world:?}"), covered));
        }
    }
    // One cell is known to 0.5 % (one standard deviation).
    check("accuracy", &cells, (0.93, 0.97));
}

#[test]
fn score_intervals_of_few_changes_are_too_wide_rather_than_too_narrow() {
    // Fewer than about four changes are expected in the first cells: their counts are so coarse that no interval that
    // depends on them alone can hold the truth just 95 times of 100.
    let mut random = SplitMix64::new(2);
    for n in DOCUMENTS {
        for world in [(0.02, 0.02), (0.01, 0.06), (0.0, 0.05)] {
            let covered = score_coverage(&mut random, &[(n, world)], 2000);
            eprintln!(
                "few changes, n = {n}, gain and loss {world:?}: {:.1} %",
                covered * 100.0
            );
            assert!(covered >= 0.935, "{n}, {world:?}: {covered}");
        }
    }
}

#[test]
fn intervals_of_the_mean_over_tasks_hold_the_truth_95_times_of_100() {
    let mixed = [
        (0.05, 0.05),
        (0.10, 0.10),
        (0.20, 0.20),
        (0.03, 0.08),
        (0.05, 0.15),
        (0.10, 0.25),
        (0.02, 0.02),
    ];
    let suites: [(&str, &[World]); 5] = [
        ("seven mixed tasks", &mixed),
        ("seven tasks of few changes", &[(0.02, 0.02); 7]),
        ("seven tasks that lose", &[(0.02, 0.10); 7]),
        ("seven tasks that only lose, little", &[(0.0, 0.03); 7]),
        ("two tasks", &[(0.05, 0.15), (0.02, 0.02)]),
    ];
    // As the full splits of the paper's tasks, the longest cut, and one of 100.
    let sizes = [277, 1500, 500, 1267, 1172, 2000, 100];
    let mut random = SplitMix64::new(3);
    let mut cells = Vec::new();
    for (name, worlds) in suites {
        for n in DOCUMENTS {
            let tasks: Vec<(usize, World)> = worlds.iter().map(|&world| (n, world)).collect();
            // As many draws in every cell but the smallest.
            let replicates = (600_000 / n).clamp(600, 2000);
            let covered = score_coverage(&mut random, &tasks, replicates);
            cells.push((format!("{name}, n = {n}"), covered));
        }
        let tasks: Vec<(usize, World)> = sizes.into_iter().zip(worlds.iter().copied()).collect();
        let covered = score_coverage(&mut random, &tasks, 1000);
        cells.push((format!("{name}, n from 100 to 2000"), covered));
    }
    check("mean over tasks", &cells, (0.925, 0.975));
}

fn normal(random: &mut SplitMix64) -> f64 {
    // Box and Muller; 1 − u lies in (0, 1].
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.unit()).cos()
}

fn exponential(random: &mut SplitMix64) -> f64 {
    -(1.0 - random.unit()).ln()
}

/// A document's losses before and after.
type DrawDocument = fn(&mut SplitMix64) -> (Loss, Loss);

fn losses(units: f64, before: f64, after: f64) -> (Loss, Loss) {
    let loss = |nats| Loss { nats, units };
    (loss(before), loss(after))
}

/// Like the last words of LAMBADA: many easy, some very hard. Means 2.0 and 2.6.
fn last_words(random: &mut SplitMix64) -> (Loss, Loss) {
    let before = 2.0 * exponential(random);
    let after = 1.1 * before + 0.6 * exponential(random) - 0.2;
    losses(1.0, before, after)
}

/// Like WikiText's articles, whose lengths vary fourfold: 3.2 and 4.0 nats per word.
fn articles(random: &mut SplitMix64) -> (Loss, Loss) {
    let words = (7.5 + 0.7 * normal(random)).exp();
    let hardness = 0.15 * normal(random);
    let after = 4.0 + 1.1 * hardness + 0.1 * normal(random);
    losses(words, words * (3.2 + hardness), words * after)
}

/// Means 3.0 and 3.3.
fn bell_curve(random: &mut SplitMix64) -> (Loss, Loss) {
    let before = 3.0 + normal(random);
    losses(1.0, before, before + 0.3 + 0.4 * normal(random))
}

/// A kind of documents, the scale of the difference, and the true difference.
struct Losses {
    name: &'static str,
    draw: DrawDocument,
    scale: Scale,
    truth: f64,
}

/// Coverage of the bootstrap interval from `n` documents. It draws 399 resamples, of which the same share lies outside as
/// of the 10,000 of an evaluation.
fn bootstrap_coverage(random: &mut SplitMix64, world: &Losses, n: usize) -> f64 {
    let difference =
        |sums: &Sums| world.scale.value(sums.rate_after()) - world.scale.value(sums.rate_before());
    // The smaller the sample, the more the shape of the world matters, and the cheaper it is.
    let replicates = (100_000 / n).clamp(150, 1000);
    let mut seed = 0;
    coverage(replicates, || {
        let documents: Vec<Sums> = (0..n)
            .map(|_| {
                let (before, after) = (world.draw)(random);
                Sums::new(before, after)
            })
            .collect();
        seed += 1;
        let (_, low, high) = bootstrap::interval(&documents, difference, 399, seed).unwrap();
        low <= world.truth && world.truth <= high
    })
}

#[test]
fn bootstrap_intervals_hold_the_truth_95_times_of_100() {
    let world = |name, draw, scale, truth| Losses {
        name,
        draw,
        scale,
        truth,
    };
    let perplexity = |after: f64, before: f64| after.exp() - before.exp();
    let worlds = [
        world(
            "bell curve, nats",
            bell_curve as DrawDocument,
            Scale::Nats,
            0.3,
        ),
        world("last words, nats", last_words, Scale::Nats, 0.6),
        world(
            "last words, perplexity",
            last_words,
            Scale::Perplexity,
            perplexity(2.6, 2.0),
        ),
        world(
            "articles, perplexity",
            articles,
            Scale::Perplexity,
            perplexity(4.0, 3.2),
        ),
    ];
    let mut random = SplitMix64::new(4);
    let mut cells = Vec::new();
    for world in &worlds {
        for n in DOCUMENTS {
            let covered = bootstrap_coverage(&mut random, world, n);
            cells.push((format!("{}, n = {n}", world.name), covered));
        }
    }
    check("bootstrap", &cells, (0.91, 0.985));
}

/// Log-normal: one document of fifty costs as much as ten others. Means 2.2705 and 2.577.
fn heavy_tails(random: &mut SplitMix64) -> (Loss, Loss) {
    let before = (0.5 + 0.8 * normal(random)).exp();
    losses(1.0, before, before + (normal(random) - 1.0).exp() - 0.3)
}

#[test]
fn bootstrap_intervals_of_heavy_tails_need_hundreds_of_documents() {
    // No interval from fifty documents knows of a tail that they do not show.
    let world = Losses {
        name: "heavy tails, nats",
        draw: heavy_tails,
        scale: Scale::Nats,
        truth: (-0.5_f64).exp() - 0.3,
    };
    let mut random = SplitMix64::new(5);
    for (n, least) in DOCUMENTS.into_iter().zip([0.86, 0.88, 0.91, 0.91]) {
        let covered = bootstrap_coverage(&mut random, &world, n);
        eprintln!(
            "bootstrap, {}, n = {n}: {:.1} %",
            world.name,
            covered * 100.0
        );
        assert!(covered >= least, "n = {n}: {covered}");
    }
}
