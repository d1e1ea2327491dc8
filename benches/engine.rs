//! What the engine spends its time in. `cargo bench --bench engine`; docs/PERFORMANCE.md has the figures.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run should stop")]
#![expect(
    clippy::cast_possible_truncation,
    reason = "small numbers of synthetic models"
)]

use std::hint::black_box;

use candle_core::{Device, Tensor};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secateur::engine::model::{InputId, LinearSpec, RopeScaling, RopeSpec, RopeTable};
use secateur::engine::ops::{AttentionShape, Segment, TokenLayout, causal_attention};
use secateur::engine::{
    Checkpoint, Decoder, Goal, InputStatistics, MethodId, Pattern, PruneOptions, PrunedCopy,
    ResidentBlocks, ScoredSequence, Silent, TokenWindows, Weights, log_likelihoods, perplexity,
    prune,
};

#[path = "../tests/integration/support/synthetic.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod synthetic;
use synthetic::{Shape, write_model};

/// The program's allocator with its settings (main.rs): without it, the paging of large buffers is what is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[expect(
    unsafe_code,
    reason = "jemalloc reads its settings from a symbol of this name"
)]
// SAFETY: the name is jemalloc's own and nothing else in this program defines it.
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: &u8 =
    &b"retain:true,dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always,oversize_threshold:0\0"[0];

fn random(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    // The sum of four is near enough to a normal distribution.
    (0..n)
        .map(|_| uniform() + uniform() + uniform() + uniform())
        .collect()
}

/// The paper's own way: sort each row by score.
fn by_stable_sort(weights: &mut [f32], norms: &[f32]) {
    for row in weights.chunks_exact_mut(norms.len()) {
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        let score = |i: &u32| row[*i as usize].abs() * norms[*i as usize];
        order.sort_by(|a, b| score(a).total_cmp(&score(b)));
        order[..norms.len() / 2]
            .iter()
            .for_each(|&i| row[i as usize] = 0.0);
    }
}

const HALF: Goal = Goal::new(Pattern::Unstructured, 0.5);

const TWO_OF_FOUR: Goal = Goal::new(Pattern::KeptOfGroup { kept: 2, group: 4 }, 0.5);

/// Statistics of one token.
fn seen(x: &[f32]) -> InputStatistics {
    let wanted = MethodId::default().needs();
    let mut seen = InputStatistics::collecting(wanted, x.len(), 1);
    let x = Tensor::from_vec(x.to_vec(), (1, x.len()), &Device::Cpu).unwrap();
    seen.add(&x).unwrap();
    seen
}

/// Time per element is time per weight.
fn mask_selection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    group.sample_size(10);
    for (d_out, d_in) in [(4096, 4096), (11008, 4096), (4096, 11008)] {
        let shape = format!("{d_out}x{d_in}");
        let weights = random(d_out * d_in, 1);
        let norms: Vec<f32> = random(d_in, 2).iter().map(|x| x.abs() + 0.1).collect();
        let seen = seen(&norms);
        let linear = LinearSpec {
            name: "linear".to_owned(),
            d_out,
            d_in,
            has_bias: false,
            input: InputId(0),
        };
        group.throughput(Throughput::Elements(weights.len() as u64));
        for (method, goal) in [
            ("wanda", HALF),
            ("wanda", TWO_OF_FOUR),
            ("magnitude", HALF),
            ("ria", HALF),
        ] {
            let name = format!("{method}, {}", goal.pattern);
            let method: MethodId = method.parse().unwrap();
            group.bench_function(BenchmarkId::new(name, &shape), |bencher| {
                bencher.iter_batched_ref(
                    || Weights::F32(weights.clone()),
                    |weights| {
                        let mask = method.prune(weights, &linear, &seen, goal).unwrap();
                        mask.mask.apply(weights);
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        if d_out == d_in {
            group.bench_function(BenchmarkId::new("50 %, stable sort", &shape), |bencher| {
                bencher.iter_batched_ref(
                    || weights.clone(),
                    |weights| by_stable_sort(weights, &norms),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

const SHAPE: Shape = Shape {
    hidden: 576,
    intermediate: 1536,
    blocks: 2,
    vocab: 4096,
};

fn windows() -> TokenWindows {
    TokenWindows::new((0..8 * 512).map(|i| i * 31 % 4096).collect(), 512).unwrap()
}

/// Two blocks of SmolLM2's size on 8 windows of 512: the first is observed, pruned and forwarded, the last observed
/// and pruned. Elements are tokens.
fn calibrate_and_prune(criterion: &mut Criterion) {
    let model = tempfile::tempdir().unwrap();
    write_model(model.path(), SHAPE);
    let source = Checkpoint::open(model.path()).unwrap();
    let decoder = Decoder::open(&source, &Device::Cpu).unwrap();
    let out = tempfile::tempdir().unwrap();
    let target = PrunedCopy::create(&source, out.path()).unwrap();
    let windows = windows();
    let mut group = criterion.benchmark_group("prune");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(windows.n_tokens() as u64));
    group.bench_function("two blocks, wanda 50 %", |bencher| {
        let options = PruneOptions {
            recipe: MethodId::default().into(),
            targets: &HALF.into(),
            windows: Some(&windows),
            resume_state: None,
        };
        bencher.iter(|| prune(&decoder, &target, &options, &mut Silent).unwrap());
    });
    group.finish();
}

/// Two blocks and the head. Elements are tokens.
fn evaluation(criterion: &mut Criterion) {
    let model = tempfile::tempdir().unwrap();
    write_model(model.path(), SHAPE);
    let source = Checkpoint::open(model.path()).unwrap();
    let decoder = Decoder::open(&source, &Device::Cpu).unwrap();
    let windows = windows();
    let mut group = criterion.benchmark_group("perplexity");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(windows.n_tokens() as u64));
    group.bench_function("two blocks", |bencher| {
        let mut model = ResidentBlocks::new(&decoder, 0);
        bencher.iter(|| black_box(perplexity(&mut model, &windows, &mut Silent).unwrap()));
    });
    group.finish();
}

/// 24 contexts of 96 tokens with four endings of 12 each, on two blocks and the head: all at once, and one request at
/// a time. Elements are requests.
fn scoring(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), SHAPE);
    let source = Checkpoint::open(dir.path()).unwrap();
    let decoder = Decoder::open(&source, &Device::Cpu).unwrap();
    let ids = |seed: u32, n: u32| (0..n).map(move |i| (i * i * 31 + i + seed * 977) % 4096);
    let requests: Vec<ScoredSequence> = (0..24 * 4)
        .map(|request| ScoredSequence {
            tokens: ids(request / 4, 96).chain(ids(100 + request, 12)).collect(),
            scored: 12,
        })
        .collect();
    let mut group = criterion.benchmark_group("log-likelihoods");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(requests.len() as u64));
    for (name, at_once) in [("shared prefixes", requests.len()), ("one at a time", 1)] {
        group.bench_function(name, |bencher| {
            let mut model = ResidentBlocks::new(&decoder, u64::MAX);
            bencher.iter(|| {
                for requests in requests.chunks(at_once) {
                    black_box(log_likelihoods(&mut model, requests, &mut Silent).unwrap());
                }
            });
        });
    }
    group.finish();
}

/// The attention of SmolLM2's size on about 2048 tokens: plain windows, and contexts with four endings each. Elements
/// are tokens.
fn tree_attention(criterion: &mut Criterion) {
    let spec = RopeSpec {
        theta: 10_000.0,
        scaling: RopeScaling::Default,
        width: 64,
    };
    let rope = RopeTable::new(&spec, 512);
    let shape = AttentionShape {
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        scale: 0.125,
        soft_cap: None,
        window: None,
        rope: Some(&rope),
    };
    let mut segments: Vec<Segment> = Vec::new();
    for _ in 0..14 {
        let context = segments.len();
        for (parent, len) in [(None, 96)].into_iter().chain([(Some(context), 12); 4]) {
            let start = segments.last().map_or(0, |last| last.start + last.len);
            let position = if parent.is_some() { 96 } else { 0 };
            segments.push(Segment {
                parent,
                start,
                len,
                position,
            });
        }
    }
    let mut group = criterion.benchmark_group("attention");
    for (name, n, layout) in [
        ("windows of 512", 2048, TokenLayout::Windows(512)),
        ("windows of 128", 2048, TokenLayout::Windows(128)),
        (
            "trees of 96 + 4 x 12",
            14 * 144,
            TokenLayout::Tree(&segments),
        ),
    ] {
        let tensor = |heads: usize, seed| {
            Tensor::from_vec(random(n * heads * 64, seed), (n, heads * 64), &Device::Cpu).unwrap()
        };
        let (q, k, v) = (tensor(9, 1), tensor(3, 2), tensor(3, 3));
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| causal_attention(&q, &k, &v, &shape, layout).unwrap());
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    mask_selection,
    calibrate_and_prune,
    evaluation,
    scoring,
    tree_attention
);
criterion_main!(benches);
