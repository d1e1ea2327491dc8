//! A small model of every family with weights at random, for tests.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;

pub(crate) use super::family::examples;
use super::{Decoder, ModelPlan};
use crate::checkpoint::Checkpoint;

/// Writes `config` and all tensors that it calls for into a folder of its own.
pub(crate) fn write(config: &Value) -> tempfile::TempDir {
    write_with(config, |_, values| values)
}

/// The same with other values of some tensors, which `change` makes of their names and of values at random.
pub(crate) fn write_with(
    config: &Value,
    change: impl Fn(&str, Vec<f32>) -> Vec<f32>,
) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let plan = ModelPlan::parse(config.to_string().as_bytes()).unwrap();
    let mut state = 7_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut tensors = HashMap::new();
    for (name, shape) in plan.tensors() {
        let n = shape.iter().product();
        // Norms are near 1, outputs of linears as large as their inputs.
        let is_norm = shape.len() == 1 && name.ends_with("weight");
        let (middle, size) = match (is_norm, shape.len()) {
            (true, _) => (1.0, 0.5),
            (false, 1) => (0.0, 0.5),
            (false, _) => (0.0, 2.0 / (shape[1] as f32).sqrt()),
        };
        let values = (0..n).map(|_| middle + size * random()).collect();
        let tensor = Tensor::from_vec(change(&name, values), shape, &Device::Cpu).unwrap();
        if !(plan.head.is_tied && name == plan.head.projection) {
            tensors.insert(name, tensor);
        }
    }
    write_files(dir.path(), config, &tensors);
    dir
}

fn write_files(dir: &Path, config: &Value, tensors: &HashMap<String, Tensor>) {
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    candle_core::safetensors::save(tensors, dir.join("model.safetensors")).unwrap();
}

/// Calls `work` with a model of each family.
pub(crate) fn for_each_family(work: impl Fn(&Decoder<'_>)) {
    for config in examples() {
        let dir = write(&config);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        work(&Decoder::open(&checkpoint, &Device::Cpu).unwrap());
    }
}
