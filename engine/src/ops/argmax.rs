//! The token that greedy decoding chooses.

use candle_core::{D, DType, Result, Storage, Tensor};
use rayon::prelude::*;

use super::loss::softmax_row::SoftmaxRow;
use super::{contiguous, on_cpu};

/// The first largest logit of each row; `None` if a logit of the row is not finite.
///
/// `logits`: `[n, vocab]`, f32
pub fn argmax(logits: &Tensor) -> Result<Vec<Option<u32>>> {
    if !on_cpu(logits) {
        let not_finite = (logits * 0.0)?.sum(D::Minus1)?.to_vec1::<f32>()?;
        let largest = composed(logits)?.to_vec1::<u32>()?;
        let rows = largest.into_iter().zip(not_finite);
        return Ok(rows
            .map(|(at, sick)| (!sick.is_nan()).then_some(at))
            .collect());
    }
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("a CPU tensor without CPU storage")
    };
    let rows = contiguous(storage, layout)?.par_chunks_exact(logits.dim(1)?);
    let largest = rows.map(|row| {
        let softmax = SoftmaxRow::of(row);
        let at = row.iter().position(|&x| x >= softmax.top)?;
        u32::try_from(at).ok().filter(|_| softmax.sum.is_finite())
    });
    Ok(largest.collect())
}

/// Index of the first largest logit of each row, u32. The tensor library's own argmax names no order among equal ones.
pub(super) fn composed(logits: &Tensor) -> Result<Tensor> {
    let vocab = u32::try_from(logits.dim(1)?).map_err(candle_core::Error::wrap)?;
    let index = Tensor::arange(0, vocab, logits.device())?.broadcast_as(logits.shape())?;
    let beyond = Tensor::full(vocab, logits.shape(), logits.device())?;
    let is_largest = logits.broadcast_ge(&logits.max_keepdim(D::Minus1)?)?;
    // A minimum of integers is not there on every device; f32 is exact for indices below 2²⁴.
    is_largest
        .where_cond(&index.contiguous()?, &beyond)?
        .to_dtype(DType::F32)?
        .min(D::Minus1)?
        .to_dtype(DType::U32)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn of_equal_logits_the_first_is_chosen_and_a_sick_row_has_none() {
        let rows = [
            [1f32, 5.0, 5.0],
            [7.0, 7.0, 7.0],
            [f32::NAN, 1.0, 2.0],
            [-3.0, -2.0, -1.0],
        ];
        let logits = Tensor::new(&rows, &Device::Cpu).unwrap();
        assert_eq!(argmax(&logits).unwrap(), [Some(1), Some(0), None, Some(2)]);
        let healthy = logits.index_select(&Tensor::new(&[0u32, 1, 3], &Device::Cpu).unwrap(), 0);
        let composed = composed(&healthy.unwrap()).unwrap();
        assert_eq!(composed.to_vec1::<u32>().unwrap(), [1, 0, 2]);
    }
}
