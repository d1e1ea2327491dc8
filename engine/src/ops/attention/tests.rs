use candle_core::{DType, Device, Tensor};

use super::cached::CachedAttention;
use super::tree::TreeAttention;
use super::*;
use crate::model::{RopeScaling, RopeSpec};

const HEAD_DIM: usize = 16;

fn table(width: usize, seq_len: usize) -> RopeTable {
    let spec = RopeSpec {
        theta: 10_000.0,
        scaling: RopeScaling::Default,
        width,
    };
    RopeTable::new(&spec, seq_len)
}

fn shape(rope: &RopeTable, window: Option<usize>) -> AttentionShape<'_> {
    AttentionShape {
        heads: 6,
        kv_heads: 2,
        head_dim: HEAD_DIM,
        scale: 0.25,
        soft_cap: None,
        window,
        rope: Some(rope),
    }
}

fn random(rows: usize, heads: usize) -> Tensor {
    Tensor::randn(0f32, 1.0, (rows, heads * HEAD_DIM), &Device::Cpu).unwrap()
}

fn assert_close(a: &Tensor, b: &Tensor, what: &str) {
    let difference = (a - b).unwrap().abs().unwrap().max_all().unwrap();
    let worst = difference.to_scalar::<f32>().unwrap();
    assert!(worst < 1e-5, "{what}: {worst}");
}

/// Segments from `(parent, len)`.
fn tree(nodes: &[(Option<usize>, usize)]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for &(parent, len) in nodes {
        segments.push(Segment {
            parent,
            start: segments.last().map_or(0, |last| last.start + last.len),
            len,
            position: parent.map_or(0, |parent| segments[parent].position + segments[parent].len),
        });
    }
    segments
}

/// Rows of the whole sequence that ends with segment `index`.
fn path(segments: &[Segment], index: usize) -> Vec<u32> {
    let mut chain = layout::ancestors(segments, index);
    chain.push(segments[index]);
    let rows = chain.iter().flat_map(|s| s.start..s.start + s.len);
    rows.map(|row| u32::try_from(row).unwrap()).collect()
}

/// Every sequence of the tree, alone in a batch, must come out as within the tree.
fn check_tree(nodes: &[(Option<usize>, usize)], window: Option<usize>) {
    let segments = tree(nodes);
    let rows: usize = segments.iter().map(|s| s.len).sum();
    let rope = table(
        HEAD_DIM,
        segments.iter().map(|s| s.position + s.len).max().unwrap(),
    );
    let shape = shape(&rope, window);
    let (q, k, v) = (random(rows, 6), random(rows, 2), random(rows, 2));
    let fused = causal_attention(&q, &k, &v, &shape, TokenLayout::Tree(&segments)).unwrap();
    let attention = TreeAttention {
        shape: &shape,
        segments: &segments,
    };
    assert_close(&fused, &attention.composed(&q, &k, &v).unwrap(), "composed");
    for index in 0..segments.len() {
        let path = Tensor::new(path(&segments, index), &Device::Cpu).unwrap();
        let alone = |x: &Tensor| x.index_select(&path, 0).unwrap();
        let windows = TokenLayout::Windows(path.dims()[0]);
        let expected = causal_attention(&alone(&q), &alone(&k), &alone(&v), &shape, windows);
        assert_close(
            &alone(&fused),
            &expected.unwrap(),
            &format!("{nodes:?}, window {window:?}, segment {index}"),
        );
    }
}

#[test]
fn a_tree_gives_each_sequence_what_it_gets_alone() {
    let deep: Vec<_> = (0..12_usize)
        .map(|i| (i.checked_sub(1), 1 + i % 4))
        .collect();
    let trees: [&[(Option<usize>, usize)]; 5] = [
        &[(None, 1), (Some(0), 1)],
        // Four endings of one context, then an unrelated sequence.
        &[
            (None, 40),
            (Some(0), 7),
            (Some(0), 3),
            (Some(0), 1),
            (Some(0), 9),
            (None, 5),
        ],
        // Two levels; long enough for several chunks of queries.
        &[
            (None, 300),
            (Some(0), 200),
            (Some(1), 2),
            (Some(1), 150),
            (Some(0), 30),
        ],
        &[(None, 2), (Some(0), 700), (Some(0), 1)],
        &deep,
    ];
    for nodes in trees {
        for window in [None, Some(1), Some(4), Some(64)] {
            check_tree(nodes, window);
        }
    }
}

fn check_windows(seq_len: usize, window: Option<usize>) {
    let rope = table(HEAD_DIM, seq_len);
    let shape = shape(&rope, window);
    let (q, k, v) = (
        random(2 * seq_len, 6),
        random(2 * seq_len, 2),
        random(2 * seq_len, 2),
    );
    let layout = TokenLayout::Windows(seq_len);
    let fused = causal_attention(&q, &k, &v, &shape, layout).unwrap();
    let attention = TreeAttention {
        shape: &shape,
        segments: &layout.segments(2 * seq_len).unwrap(),
    };
    let what = format!("seq_len {seq_len}, window {window:?}");
    assert_close(&fused, &attention.composed(&q, &k, &v).unwrap(), &what);
}

#[test]
fn fused_and_composed_agree() {
    for seq_len in [1, 7, 128, 129, 700] {
        check_windows(seq_len, None);
    }
}

#[test]
fn only_the_first_components_of_each_head_are_turned() {
    // Heads of 4 of which 2 are turned, by 1 radian at position 1.
    let rope = table(2, 2);
    let shape = AttentionShape {
        head_dim: 4,
        ..shape(&rope, None)
    };
    let x = Tensor::new(&[[1f32, 0.0, 5.0, 6.0, 0.0, 1.0, 7.0, 8.0]], &Device::Cpu).unwrap();
    let turned = rotate(&x, &[1], &shape).unwrap();
    let (sin, cos) = 1f32.sin_cos();
    let expected = [[cos, sin, 5.0, 6.0, -sin, cos, 7.0, 8.0]];
    let expected = Tensor::new(&expected, &Device::Cpu).unwrap();
    assert_close(&turned, &expected, "fused");
    let composed = rotate::composed(&x, &[1], &shape).unwrap();
    assert_close(&composed, &expected, "composed");
}

#[test]
fn without_a_rotary_table_nothing_is_turned() {
    let rope = table(HEAD_DIM, 1);
    let shape = AttentionShape {
        rope: None,
        ..shape(&rope, None)
    };
    let (q, k, v) = (random(9, 6), random(9, 2), random(9, 2));
    assert_close(&rotate(&q, &[3; 9], &shape).unwrap(), &q, "rotate");
    let layout = TokenLayout::Windows(9);
    let fused = causal_attention(&q, &k, &v, &shape, layout).unwrap();
    // The last token sees the same whatever the order of those before it.
    let order = Tensor::new(&[3u32, 0, 7, 1, 6, 2, 5, 4, 8], &Device::Cpu).unwrap();
    let mixed = |x: &Tensor| x.index_select(&order, 0).unwrap();
    let other = causal_attention(&mixed(&q), &mixed(&k), &mixed(&v), &shape, layout).unwrap();
    let last = |x: &Tensor| x.narrow(0, 8, 1).unwrap();
    assert_close(&last(&fused), &last(&other), "order");
}

#[test]
fn scores_have_a_soft_cap() {
    let rope = table(2, 2);
    let shape = AttentionShape {
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        scale: 1.0,
        soft_cap: Some(2.0),
        window: None,
        rope: Some(&rope),
    };
    // Component 0 turns by 1 radian from position 0 to 1: the second query's scores are 4 cos 1 and 4.
    let q = Tensor::new(&[[2f32, 0.0], [2.0, 0.0]], &Device::Cpu).unwrap();
    let v = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap();
    let layout = TokenLayout::Windows(2);
    let fused = causal_attention(&q, &q, &v, &shape, layout).unwrap();
    let weights = [4.0 * 1f32.cos(), 4.0].map(|score| (2.0 * (score / 2.0).tanh()).exp());
    let all = weights[0] + weights[1];
    let expected = Tensor::new(&[[1.0, 0.0], weights.map(|w| w / all)], &Device::Cpu).unwrap();
    assert_close(&fused, &expected, "fused");
    let attention = TreeAttention {
        shape: &shape,
        segments: &layout.segments(2).unwrap(),
    };
    assert_close(
        &attention.composed(&q, &q, &v).unwrap(),
        &expected,
        "composed",
    );
}

#[test]
fn a_sliding_window_hides_what_lies_before_it() {
    for window in [1, 5, 64, 400] {
        check_windows(300, Some(window));
    }
}

#[test]
fn the_first_token_attends_to_itself_alone() {
    let rope = table(2, 2);
    let shape = AttentionShape {
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        scale: 1.0,
        soft_cap: None,
        window: None,
        rope: Some(&rope),
    };
    let q = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
    let v = Tensor::new(&[[1f32, 2.0], [3.0, 6.0]], &Device::Cpu).unwrap();
    let out = causal_attention(&q, &q, &v, &shape, TokenLayout::Windows(2)).unwrap();
    // Equal scores: the second token's output is the mean of both values.
    assert_eq!(out.to_vec2::<f32>().unwrap(), [[1.0, 2.0], [2.0, 4.0]]);
}

#[test]
fn a_cached_sequence_gives_its_last_token_what_the_whole_sequence_gives_it() {
    for window in [None, Some(9)] {
        let rope = table(HEAD_DIM, 90);
        let shape = shape(&rope, window);
        // Rows of the cache that belong to nobody lie between the sequences.
        let sequences =
            [(3, 1), (10, 90), (104, 17)].map(|(start, len)| CachedSequence { start, len });
        let (q, k, v) = (random(130, 6), random(130, 2), random(130, 2));
        let mut positions = vec![0; 130];
        for s in sequences {
            (0..s.len).for_each(|p| positions[s.start + p] = p);
        }
        let turned = rotate(&k, &positions, &shape).unwrap();
        let last = sequences.map(|s| q.narrow(0, s.start + s.len - 1, 1).unwrap());
        let last = Tensor::cat(&last, 0).unwrap();
        let fused = cached_attention(&last, &turned, &v, &shape, &sequences).unwrap();
        let attention = CachedAttention {
            shape: &shape,
            sequences: &sequences,
        };
        assert_close(
            &fused,
            &attention.composed(&last, &turned, &v).unwrap(),
            "composed",
        );
        for (row, s) in sequences.iter().enumerate() {
            let of = |x: &Tensor| x.narrow(0, s.start, s.len).unwrap().contiguous().unwrap();
            let layout = TokenLayout::Windows(s.len);
            let whole = causal_attention(&of(&q), &of(&k), &of(&v), &shape, layout).unwrap();
            let expected = whole.narrow(0, s.len - 1, 1).unwrap();
            assert_close(&fused.narrow(0, row, 1).unwrap(), &expected, "cached");
        }
    }
}

#[test]
fn a_layout_that_does_not_describe_the_batch_is_refused() {
    let mut segments = tree(&[(None, 4), (Some(0), 2)]);
    assert!(TokenLayout::Tree(&segments).segments(6).is_ok());
    assert!(TokenLayout::Tree(&segments).segments(7).is_err());
    assert!(TokenLayout::Windows(4).segments(6).is_err());
    segments[1].position = 3;
    assert!(TokenLayout::Tree(&segments).segments(6).is_err());
    segments[1] = Segment {
        parent: Some(1),
        position: 4,
        ..segments[1]
    };
    assert!(TokenLayout::Tree(&segments).segments(6).is_err());
}
