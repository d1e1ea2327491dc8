//! What is left of a model without some of its blocks.

use super::{BlockPlan, ModelPlan};

impl ModelPlan {
    /// What the names of the modules of all blocks begin with, such as `model.layers.`; the number follows.
    pub(crate) fn stack(&self) -> &str {
        let first = self.blocks.first().and_then(|block| block.linears.first());
        let name = first.map_or("", |linear| linear.name.as_str());
        name.find(".0.").map_or("", |dot| &name[..=dot])
    }

    /// Whether this is `whole` with the blocks `kept` alone, in their order, under new numbers.
    pub(crate) fn is_rest_of(&self, whole: &Self, kept: &[usize]) -> bool {
        let beside = |plan: &Self| Self {
            blocks: Vec::new(),
            fixed_blocks: None,
            ..plan.clone()
        };
        let blocks = self.blocks.iter().enumerate().zip(kept);
        self.blocks.len() == kept.len()
            && beside(self) == beside(whole)
            && blocks.into_iter().all(|((new, block), &old)| {
                format!("{block:?}") == whole.renumbered(&whole.blocks[old], old, new)
            })
    }

    /// A block as it is written with another number: whatever it is made of, its names have the number at one place.
    fn renumbered(&self, block: &BlockPlan, old: usize, new: usize) -> String {
        let numbered = |number| format!("\"{}{number}.", self.stack());
        format!("{block:?}").replace(&numbered(old), &numbered(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::family::examples;

    #[test]
    fn the_tensors_of_a_block_begin_with_its_number_in_every_family() {
        for config in examples() {
            let plan = ModelPlan::parse(config.to_string().as_bytes()).unwrap();
            for (index, block) in plan.blocks.iter().enumerate() {
                let prefix = format!("{}{index}.", plan.stack());
                assert!(prefix.len() > 3, "{prefix}");
                for (name, _) in block.tensors() {
                    assert!(name.starts_with(&prefix), "{name}, {prefix}");
                }
            }
        }
    }

    #[test]
    fn the_rest_is_told_from_the_whole_and_from_another_rest() {
        let plan = |types: &[&str]| {
            let mut examples = examples().into_iter();
            let is_qwen2 = |config: &serde_json::Value| config["model_type"] == "qwen2";
            let mut config = examples.find(is_qwen2).unwrap();
            config["num_hidden_layers"] = types.len().into();
            config["layer_types"] = types.into();
            config["use_sliding_window"] = true.into();
            config["sliding_window"] = 8.into();
            ModelPlan::parse(config.to_string().as_bytes()).unwrap()
        };
        let (full, sliding) = ("full_attention", "sliding_attention");
        let whole = plan(&[full, sliding, full]);
        assert!(plan(&[full, full]).is_rest_of(&whole, &[0, 2]));
        assert!(plan(&[sliding, full]).is_rest_of(&whole, &[1, 2]));
        assert!(!plan(&[sliding, full]).is_rest_of(&whole, &[0, 2]));
        assert!(!whole.is_rest_of(&whole, &[0, 2]));
        assert!(whole.is_rest_of(&whole, &[0, 1, 2]));
    }
}
