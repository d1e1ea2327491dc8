//! Sums and squared deviations of each window: what DSnoT needs to know of a linear's input.

use candle_core::{Result, Storage, Tensor};
use rayon::prelude::*;

use super::{contiguous, on_cpu};

/// Of one window and each feature: the sum, and the sum of squared deviations from the window's mean.
type Moments = (Vec<f64>, Vec<f64>);

/// Adds `Σ_t x[t][j]` to `sums[j]` and, of each window, `Σ_t (x[t][j] − mean)²` to `deviations[j]`.
///
/// - `x`: `[n_tokens, d_in]`, f32, in windows of `seq_len` tokens
/// - `sums`, `deviations`: `[d_in]`, f64
///
/// Windows are added in their order.
pub fn add_window_moments(
    x: &Tensor,
    seq_len: usize,
    sums: &mut [f64],
    deviations: &mut [f64],
) -> Result<()> {
    let (n_tokens, d_in) = x.dims2()?;
    if d_in != sums.len() || d_in != deviations.len() || !n_tokens.is_multiple_of(seq_len) {
        candle_core::bail!("{n_tokens} tokens of {d_in} features in windows of {seq_len}");
    }
    let windows = if on_cpu(x) {
        let (storage, layout) = x.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("a CPU tensor without CPU storage")
        };
        let windows = contiguous(storage, layout)?.par_chunks(seq_len * d_in);
        windows.map(|window| of_window(window, d_in)).collect()
    } else {
        composed(x, seq_len)?
    };
    for (of_sums, of_deviations) in windows {
        let pairs = sums.iter_mut().zip(of_sums);
        pairs.for_each(|(sum, of_window)| *sum += of_window);
        let pairs = deviations.iter_mut().zip(of_deviations);
        pairs.for_each(|(sum, of_window)| *sum += of_window);
    }
    Ok(())
}

fn of_window(window: &[f32], d_in: usize) -> Moments {
    let tokens = (window.len() / d_in) as f64;
    let mut sums = vec![0f64; d_in];
    for row in window.chunks_exact(d_in) {
        let pairs = sums.iter_mut().zip(row);
        pairs.for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let mut deviations = vec![0f64; d_in];
    for row in window.chunks_exact(d_in) {
        for ((deviation, x), sum) in deviations.iter_mut().zip(row).zip(&sums) {
            let off = f64::from(*x) - sum / tokens;
            *deviation += off * off;
        }
    }
    (sums, deviations)
}

fn composed(x: &Tensor, seq_len: usize) -> Result<Vec<Moments>> {
    let wide = |x: Tensor| -> Result<Vec<f64>> {
        let values = x.to_vec1::<f32>()?;
        Ok(values.into_iter().map(f64::from).collect())
    };
    (0..x.dim(0)?)
        .step_by(seq_len)
        .map(|start| {
            let window = x.narrow(0, start, seq_len)?;
            let off = window.broadcast_sub(&window.mean_keepdim(0)?)?;
            Ok((wide(window.sum(0)?)?, wide(off.sqr()?.sum(0)?)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn hand_computed_windows_are_added_to_what_was_there() {
        let x = [[1f32, -2.0], [3.0, 0.0], [5.0, 1.0], [5.0, 2.0]];
        let x = Tensor::new(&x, &Device::Cpu).unwrap();
        let (mut sums, mut deviations) = (vec![1.0, 0.0], vec![0.0, 1.0]);
        add_window_moments(&x, 2, &mut sums, &mut deviations).unwrap();
        assert_eq!((sums, deviations), (vec![15.0, 1.0], vec![2.0, 3.5]));
        assert!(add_window_moments(&x, 3, &mut [0.0; 2], &mut [0.0; 2]).is_err());
    }

    #[test]
    fn fused_and_composed_agree() {
        let x = Tensor::randn(0.5f32, 2.0, (96, 33), &Device::Cpu).unwrap();
        let (mut sums, mut deviations) = (vec![0.0; 33], vec![0.0; 33]);
        add_window_moments(&x, 32, &mut sums, &mut deviations).unwrap();
        let windows = composed(&x, 32).unwrap();
        assert_eq!(windows.len(), 3);
        for j in 0..33 {
            let sum: f64 = windows.iter().map(|(sums, _)| sums[j]).sum();
            let deviation: f64 = windows.iter().map(|(_, deviations)| deviations[j]).sum();
            assert!((sums[j] - sum).abs() < 1e-3, "{} {sum}", sums[j]);
            assert!((deviations[j] - deviation).abs() < 1e-4 * deviation);
        }
    }
}
