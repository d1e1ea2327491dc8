//! The schemas of what is asked of linears; the types are the engine's.

use crate::engine::Pattern;

/// What is asked of the linears whose names match: one of `sparsity`, `pattern` and `dense`.
#[derive(Debug, utoipa::ToSchema)]
#[schema(as = LinearRule)]
pub struct RuleObject {
    /// A regular expression that is searched for in the names of linears.
    #[schema(rename = "match")]
    pub expression: String,
    /// The fraction of zeros at any position, in [0, 1).
    pub sparsity: Option<f64>,
    /// An `N:M` pattern.
    #[schema(value_type = Option<String>, example = "2:4")]
    pub pattern: Option<Pattern>,
    /// Whether the linears are left as they are.
    pub dense: bool,
}
