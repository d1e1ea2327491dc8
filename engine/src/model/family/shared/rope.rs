//! Rotary settings of a `config.json`, in each spelling, with the precedence of transformers 5.
//!
//! `rope_scaling` (transformers 4) comes before `rope_parameters` (transformers 5) unless it is empty; `rope_theta` and
//! `partial_rotary_factor` within it come before the ones beside it.

use crate::error::Result;
use crate::model::config::{Config, missing};
use crate::model::family::{invalid, unsupported};
use crate::model::rope::{RopeScaling, RopeSpec};

/// Where a class finds its rotary settings, and what it takes where there are none.
#[derive(Clone, Copy)]
pub(in crate::model::family) struct RopeDefaults {
    /// Base of the frequencies.
    pub(in crate::model::family) theta: f64,
    /// Its key beside the settings.
    pub(in crate::model::family) theta_key: &'static str,
    /// Key and default of the turned share of a head; `None` = whole heads.
    pub(in crate::model::family) partial: Option<(&'static str, f64)>,
    /// Context of the training before scaling; `None` = the longest context.
    pub(in crate::model::family) original_max_seq_len: Option<usize>,
    /// Known kinds of scaling, with what the class takes each for; `None` = all.
    pub(in crate::model::family) kinds: Option<&'static [(&'static str, &'static str)]>,
}

impl Default for RopeDefaults {
    fn default() -> Self {
        Self {
            theta: 10_000.0,
            theta_key: "rope_theta",
            partial: None,
            original_max_seq_len: None,
            kinds: None,
        }
    }
}

/// Of the one table of a model.
pub(in crate::model::family) fn read(
    config: &Config,
    head_dim: usize,
    max_seq_len: usize,
    defaults: &RopeDefaults,
) -> Result<RopeSpec> {
    let settings = match config.object("rope_scaling")? {
        Some(settings) if !settings.is_empty() => settings,
        _ => config.object("rope_parameters")?.unwrap_or_default(),
    };
    if let Some(kind) = settings.nested() {
        return unsupported(format!("rotary settings of their own for {kind:?}"));
    }
    let source = Source {
        beside: config,
        settings: &settings,
        head_dim,
        max_seq_len,
        defaults,
    };
    source.spec()
}

/// Of blocks that see all tokens, and of those with a sliding window.
///
/// The older keys `rope_scaling`, `rope_theta` (all tokens) and `rope_local_base_freq` (sliding window) are read, too.
pub(in crate::model::family) fn read_by_layer_type(
    config: &Config,
    head_dim: usize,
    max_seq_len: usize,
    thetas: [f64; 2],
) -> Result<[RopeSpec; 2]> {
    let settings = config.object("rope_parameters")?.unwrap_or_default();
    if !settings.is_empty() && settings.nested().is_none() {
        return unsupported("rope_parameters without a layer type".to_owned());
    }
    let spec = |kind, scaling: Option<Config>, theta_key, theta| {
        let settings = settings.object(kind)?.unwrap_or_default();
        let source = Source {
            beside: &Config::default(),
            settings: &settings.overlaid(scaling.unwrap_or_default()),
            head_dim,
            max_seq_len,
            defaults: &RopeDefaults {
                theta: config.positive(theta_key)?.unwrap_or(theta),
                ..RopeDefaults::default()
            },
        };
        source.spec()
    };
    let scaling = config.object("rope_scaling")?;
    Ok([
        spec("full_attention", scaling, "rope_theta", thetas[0])?,
        spec("sliding_attention", None, "rope_local_base_freq", thetas[1])?,
    ])
}

/// Settings, and what stands beside them.
struct Source<'a> {
    beside: &'a Config,
    settings: &'a Config,
    head_dim: usize,
    max_seq_len: usize,
    defaults: &'a RopeDefaults,
}

impl Source<'_> {
    fn spec(&self) -> Result<RopeSpec> {
        let theta = self.own_or_beside("rope_theta", self.defaults.theta_key)?;
        let width = self.width()?;
        Ok(RopeSpec {
            theta: theta.unwrap_or(self.defaults.theta),
            scaling: self.scaling(width)?,
            width,
        })
    }

    fn own_or_beside(&self, key: &str, beside: &str) -> Result<Option<f64>> {
        match self.settings.positive(key)? {
            None => self.beside.positive(beside),
            own => Ok(own),
        }
    }

    /// Components of a head that are turned.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as the class rounds it; a head is small"
    )]
    fn width(&self) -> Result<usize> {
        const KEY: &str = "partial_rotary_factor";
        let (beside, default) = self.defaults.partial.unwrap_or((KEY, 1.0));
        let factor = self.own_or_beside(KEY, beside)?.unwrap_or(default);
        if self.defaults.partial.is_none() && (factor - 1.0).abs() > f64::EPSILON {
            return unsupported(format!("{KEY} {factor}"));
        }
        let width = (self.head_dim as f64 * factor) as usize;
        if width == 0 || width > self.head_dim || !width.is_multiple_of(2) {
            return invalid(format!(
                "{width} of {} components of a head are turned, expected an even number of them",
                self.head_dim
            ));
        }
        Ok(width)
    }

    fn scaling(&self, width: usize) -> Result<RopeScaling> {
        let required = |key| self.settings.positive(key)?.ok_or_else(|| missing(key));
        let kind = match self.settings.text("rope_type")? {
            None => self.settings.text("type")?,
            newer => newer,
        };
        let named = kind.unwrap_or("default");
        let kind = match self.defaults.kinds {
            None => Some(named),
            Some(known) => known
                .iter()
                .find(|(name, _)| *name == named)
                .map(|(_, kind)| *kind),
        };
        match kind.unwrap_or_default() {
            // Dynamic scaling changes nothing up to the longest context, and no more is run.
            "default" | "dynamic" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear {
                factor: required("factor")?,
            }),
            "llama3" => {
                let (low_freq_factor, high_freq_factor) =
                    (required("low_freq_factor")?, required("high_freq_factor")?);
                if low_freq_factor >= high_freq_factor {
                    return invalid(
                        "low_freq_factor must be less than high_freq_factor".to_owned(),
                    );
                }
                Ok(RopeScaling::Llama3 {
                    factor: required("factor")?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_seq_len: self.original_max_seq_len()?,
                })
            }
            "yarn" => self.yarn(required("factor")?),
            "longrope" => self.longrope(width),
            _ => unsupported(format!("rope_type {named:?}")),
        }
    }

    /// Context of the training before: what stands beside counts more.
    fn original_max_seq_len(&self) -> Result<usize> {
        const KEY: &str = "original_max_position_embeddings";
        let beside = self
            .beside
            .size(KEY)?
            .or(self.defaults.original_max_seq_len);
        let original = match beside {
            None => self.settings.size(KEY)?,
            beside => beside,
        };
        Ok(original.unwrap_or(self.max_seq_len))
    }

    fn yarn(&self, factor: f64) -> Result<RopeScaling> {
        let number = |key| self.settings.positive(key);
        let scale = |by: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * by * factor.ln() + 1.0
            }
        };
        let of_scales = match (number("mscale")?, number("mscale_all_dim")?) {
            (Some(mscale), Some(all)) => scale(mscale) / scale(all),
            _ => scale(1.0),
        };
        Ok(RopeScaling::Yarn {
            factor,
            attention_factor: number("attention_factor")?.unwrap_or(of_scales),
            beta_fast: number("beta_fast")?.unwrap_or(32.0),
            beta_slow: number("beta_slow")?.unwrap_or(1.0),
            truncate: self.settings.flag_or("truncate", true)?,
            original_max_seq_len: self.original_max_seq_len()?,
        })
    }

    /// LongRoPE up to the context of the training before (see [`longest_context`]).
    ///
    /// Beyond it, the frequencies depend on the longest sequence of a batch.
    fn longrope(&self, width: usize) -> Result<RopeScaling> {
        let factors = |key| self.settings.numbers(key)?.ok_or_else(|| missing(key));
        let (short_factors, long_factors) = (factors("short_factor")?, factors("long_factor")?);
        if [short_factors.len(), long_factors.len()] != [width / 2; 2] {
            return invalid(format!(
                "short_factor and long_factor have {} and {} numbers, expected {}",
                short_factors.len(),
                long_factors.len(),
                width / 2
            ));
        }
        let original = self.original_max_seq_len()? as f64;
        let factor = self.settings.positive("factor")?;
        let factor = factor.unwrap_or(self.max_seq_len as f64 / original);
        let computed = if factor <= 1.0 {
            1.0
        } else {
            (1.0 + factor.ln() / original.ln()).sqrt()
        };
        let attention_factor = self.settings.positive("attention_factor")?;
        Ok(RopeScaling::LongRope {
            short_factors,
            attention_factor: attention_factor.unwrap_or(computed),
            original_max_seq_len: self.original_max_seq_len()?,
        })
    }
}

/// The longest context that `scaling` is known for.
pub(in crate::model::family) fn longest_context(
    scaling: &RopeScaling,
    max_seq_len: usize,
) -> usize {
    match *scaling {
        RopeScaling::LongRope {
            original_max_seq_len,
            ..
        } => max_seq_len.min(original_max_seq_len),
        _ => max_seq_len,
    }
}
