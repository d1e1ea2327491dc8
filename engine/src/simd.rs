//! Plain loops, run with the widest vector instructions of the CPU at hand.
//!
//! The loops use additions and multiplications only, in a fixed order of 16 lanes, so that every instruction set
//! gives the same bits.

/// Which instructions a loop is compiled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Isa {
    /// The widest that this CPU has.
    #[default]
    Native,
    /// What every CPU of this architecture has.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare with it"))]
    Portable,
}

/// Runs `work` compiled for `isa`. `work` must be small: what it calls must be inlined into it.
#[inline]
pub(crate) fn dispatch<R>(isa: Isa, work: impl FnOnce() -> R) -> R {
    match isa {
        Isa::Native => pulp::Arch::new().dispatch(work),
        Isa::Portable => work(),
    }
}

/// Runs `work` with the widest instructions.
#[inline]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    dispatch(Isa::Native, work)
}

/// Number of independent accumulators of a reduction.
pub(crate) const LANES: usize = 16;

/// Σ f(x) over `xs`, in 16 lanes that are added up at the end.
#[inline(always)]
pub(crate) fn sum_by(xs: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = xs.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane += f(x);
    }
    lanes.iter().sum()
}

/// Σ f(x, y) over pairs of `xs` and `ys`, in 16 lanes that are added up at the end.
#[inline(always)]
pub(crate) fn sum_by_pairs(xs: &[f32], ys: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    for (xs, ys) in xs.chunks(LANES).zip(ys.chunks(LANES)) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(xs).zip(ys) {
            *lane += f(x, y);
        }
    }
    lanes.iter().sum()
}

/// Largest of `xs`; -inf when empty. NaN is not seen.
#[inline(always)]
pub(crate) fn max(xs: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = xs.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane = if x > *lane { x } else { *lane };
    }
    lanes
        .into_iter()
        .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

/// eˣ for x ≤ 88, within 2 units in the last place; 0 below -87.3.
///
/// x = n·ln 2 + r with |r| ≤ ½ ln 2; eʳ by its Taylor polynomial of degree 7, whose remainder is below 2⁻²⁷.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // ln 2 in two parts: n·LN_2_HIGH is exact for |n| < 2¹⁵.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5·2²³ rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;

    let underflow = x < -87.3;
    let x = if underflow { 0.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127)
        << 23;
    let y = p * f32::from_bits(exponent);
    if underflow { 0.0 } else { y }
}

/// tanh x within 1e-6 of it, relative.
///
/// Near 0 by the first terms of its series, where `1 − 2 / (e²ˣ + 1)` loses digits.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = size * size;
    let mut series = -1382.0 / 155_925.0;
    series = series * square + 62.0 / 2835.0;
    series = series * square - 17.0 / 315.0;
    series = series * square + 2.0 / 15.0;
    series = series * square - 1.0 / 3.0;
    series = (series * square + 1.0) * size;
    // Beyond 10 it is 1 to within f32.
    let bounded = if size > 10.0 { 10.0 } else { size };
    let far = 1.0 - 2.0 / (exp(2.0 * bounded) + 1.0);
    let y = if size < 0.35 { series } else { far };
    y.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_double_precision() {
        let mut worst = 0f64;
        for i in 0..=200_000 {
            let x = -87.2 + (i as f32) * (87.2 + 88.0) / 200_000.0;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.5e-7, "worst relative error {worst}");
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0f32.to_bits());
        assert_eq!(exp(0.0).to_bits(), 1f32.to_bits());
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_agrees_with_double_precision() {
        for i in -20_000..=20_000_i16 {
            let x = f32::from(i) / 1000.0;
            let exact = f64::from(x).tanh();
            let off = (f64::from(tanh(x)) - exact).abs();
            assert!(off <= 1e-6 * exact.abs(), "{x}: {off}");
        }
        assert!(tanh(f32::NAN).is_nan());
        assert!((tanh(f32::INFINITY) - 1.0).abs() < f32::EPSILON);
    }

    #[test]
    fn reductions_give_the_same_bits_on_every_instruction_set() {
        let xs: Vec<f32> = (0..1003_u16)
            .map(|i| f32::from(i % 97) * 0.37 - 11.0)
            .collect();
        for isa in [Isa::Native, Isa::Portable] {
            let sum = dispatch(isa, || sum_by(&xs, |x| exp(x) * x));
            assert_eq!(sum.to_bits(), sum_by(&xs, |x| exp(x) * x).to_bits());
            assert_eq!(dispatch(isa, || max(&xs)).to_bits(), 24.52f32.to_bits());
        }
    }
}
