//! Norms, and where the parts of a block have them.

/// A norm over runs of consecutive features.
#[derive(Debug, Clone, PartialEq)]
pub struct NormSpec {
    /// The module's name in the checkpoint.
    pub name: String,
    /// What it computes.
    pub kind: NormKind,
    /// Features of a run, each of which is normed by itself.
    pub width: usize,
    /// Added to the mean square.
    pub eps: f32,
}

/// What a norm computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NormKind {
    /// Divides by the root of the mean square, multiplies by the weight.
    #[default]
    Rms,
    /// The same with 1 more than the weight.
    RmsFromOne,
    /// Removes mean and standard deviation, multiplies by the weight, adds a bias.
    Layer,
}

impl NormSpec {
    /// Tensor of the weight, `[width]`.
    pub fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// Tensor of the bias, `[width]`, if there is one.
    pub fn bias(&self) -> Option<String> {
        (self.kind == NormKind::Layer).then(|| format!("{}.bias", self.name))
    }

    /// Tensors of `[width]` that it reads.
    pub(super) fn tensors(&self) -> Vec<String> {
        [self.weight()].into_iter().chain(self.bias()).collect()
    }
}

/// The norms of one part of a block, attention or feed-forward:
///
/// ```text
/// h = sum(x + output(part(input(x))))
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PartNorms<T = NormSpec> {
    /// Of what the part reads.
    pub input: Option<T>,
    /// Of what it gives, before that is added to the residual stream.
    pub output: Option<T>,
    /// Of the residual stream after that.
    pub sum: Option<T>,
}

impl<T> PartNorms<T> {
    /// No norm.
    pub fn none() -> Self {
        Self {
            input: None,
            output: None,
            sum: None,
        }
    }

    /// Makes something of each norm.
    pub(crate) fn try_map<U, E>(
        &self,
        make: impl Fn(&T) -> Result<U, E>,
    ) -> Result<PartNorms<U>, E> {
        Ok(PartNorms {
            input: self.input.as_ref().map(&make).transpose()?,
            output: self.output.as_ref().map(&make).transpose()?,
            sum: self.sum.as_ref().map(&make).transpose()?,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.input.iter().chain(&self.output).chain(&self.sum)
    }
}
