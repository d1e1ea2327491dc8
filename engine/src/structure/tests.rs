//! Counts and ranks, and a model of every family without some of its parts.

use candle_core::Device;
use serde_json::json;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::model::ModelPlan;
use crate::model::test_model::{examples, write};

const BLOCKS: StructureId = STRUCTURES[0];

fn plan(blocks: usize) -> ModelPlan {
    let mut config = examples().remove(0);
    config["num_hidden_layers"] = json!(blocks);
    ModelPlan::parse(config.to_string().as_bytes()).unwrap()
}

#[test]
fn a_fraction_of_the_parts_is_rounded_down_and_removes_some_and_not_all() {
    for (blocks, sparsity, count) in [(30, 0.1, 3), (30, 0.25, 7), (4, 0.25, 1), (100, 0.29, 28)] {
        assert_eq!(BLOCKS.count(&plan(blocks), sparsity), count);
        assert!(BLOCKS.check(&plan(blocks), sparsity).is_ok());
    }
    for (blocks, sparsity, complaint) in [
        (
            4,
            0.2,
            "removes none of 4; the least that removes one is 0.25",
        ),
        (4, 0.0, "removes none of 4"),
        (5, 1.0, "removes all 5"),
    ] {
        let misfits = BLOCKS.misfits(&plan(blocks), sparsity);
        assert_eq!(misfits.len(), 1);
        let (part, error) = (&misfits[0].part, misfits[0].error.to_string());
        assert!(part == "sparsity" && error.contains(complaint), "{error}");
    }
}

#[test]
fn the_lowest_score_goes_first_and_the_first_of_equal_ones() {
    assert_eq!(ranks(&[0.5, 0.1, 0.5, -0.2, 0.1]), [3, 1, 4, 0, 2]);
}

#[test]
fn a_model_that_sets_blocks_apart_by_number_is_refused_by_name() {
    for mut config in examples() {
        // The pattern of Gemma-3 has six.
        config["num_hidden_layers"] = json!(7);
        let plan = ModelPlan::parse(config.to_string().as_bytes()).unwrap();
        let misfits = BLOCKS.misfits(&plan, 0.5);
        if !plan.architecture.starts_with("Gemma") {
            assert_eq!(misfits.len(), 0, "{misfits:?}");
            continue;
        }
        let error = misfits[0].error.to_string();
        assert_eq!((misfits.len(), misfits[0].part.as_str()), (1, "method"));
        assert!(
            error.contains(plan.architecture) && error.contains("layer_types"),
            "{error}"
        );
    }
}

/// An example of each family with three blocks, listed where the family would set them apart.
fn with_three_blocks() -> Vec<serde_json::Value> {
    let mut examples = examples();
    for config in &mut examples {
        config["num_hidden_layers"] = json!(3);
        if config["model_type"].as_str().unwrap().starts_with("gemma") {
            let kinds = ["sliding_attention", "full_attention", "sliding_attention"];
            config["layer_types"] = json!(kinds);
            config["sliding_window"] = json!(8);
        }
    }
    examples
}

/// Logits of the last token, through these blocks alone.
fn logits(decoder: &Decoder<'_>, ids: &[u32], blocks: &[usize]) -> Vec<f32> {
    use crate::model::BlockContext;
    use crate::ops::TokenLayout;
    let layout = TokenLayout::Windows(ids.len());
    let ropes = decoder.ropes(ids.len()).unwrap();
    let context = BlockContext {
        ropes: &ropes,
        layout,
    };
    let mut x = decoder.embed(ids, layout).unwrap();
    for &block in blocks {
        x = decoder.block(block).unwrap().forward(&x, &context).unwrap();
    }
    let last = x.narrow(0, ids.len() - 1, 1).unwrap();
    let logits = decoder.head().unwrap().logits(&last).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn what_is_written_computes_what_the_kept_blocks_compute_in_every_family() {
    for config in with_three_blocks() {
        let (source, out) = (write(&config), tempfile::tempdir().unwrap());
        let checkpoint = Checkpoint::open(source.path()).unwrap();
        let decoder = Decoder::open(&checkpoint, &Device::Cpu).unwrap();
        let scores = [0.5, 0.1, 0.3];
        let parts = ranks(&scores).into_iter().zip(scores).enumerate();
        let parts: Vec<_> = parts
            .map(|(block, (rank, score))| RankedPart {
                name: format!("{}{block}", decoder.plan().stack()),
                score,
                rank,
            })
            .collect();
        let names = remove(&decoder, BLOCKS, &parts, 0.4, out.path()).unwrap();
        let stack = decoder.plan().stack();
        let expected = [Some(format!("{stack}0")), None, Some(format!("{stack}1"))];
        assert_eq!(names, expected);
        let rest = Checkpoint::open(out.path()).unwrap();
        let rest = Decoder::open(&rest, &Device::Cpu).unwrap();
        let ids: Vec<u32> = (0..20).map(|i| i * 37 % 251).collect();
        let (kept, all) = (
            logits(&decoder, &ids, &[0, 2]),
            logits(&rest, &ids, &[0, 1]),
        );
        assert_eq!(kept, all, "{}", decoder.plan().architecture);
        assert_ne!(kept, logits(&decoder, &ids, &[0, 1]));
    }
}

#[test]
fn a_list_that_is_not_known_is_refused_before_anything_is_written() {
    let mut config = examples().remove(0);
    config["layers_with_extras"] = json!([0]);
    let plan = ModelPlan::parse(config.to_string().as_bytes()).unwrap();
    let misfits = BLOCKS.misfits(&plan, 0.5);
    let error = misfits[0].error.to_string();
    assert!(error.contains("layers_with_extras"), "{error}");
}
