//! How fast a model computes.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::model::{BlockContext, Decoder};
use crate::ops::TokenLayout;
use crate::windows::TokenWindows;

/// Tokens per second through all blocks of a model, computed from the first batch of the windows.
///
/// Reading weights is not counted, nor are the embedding and the head, which a model has whatever its depth. Each block
/// passes the batch once before it is timed.
pub fn tokens_per_second(decoder: &Decoder<'_>, windows: &TokenWindows) -> Result<f64> {
    let layout = TokenLayout::Windows(windows.seq_len());
    let ropes = decoder.ropes(windows.seq_len())?;
    let context = BlockContext {
        ropes: &ropes,
        layout,
    };
    let ids = windows.batches().next().unwrap_or_default();
    let mut x = decoder.embed(ids, layout)?;
    let mut spent = Duration::ZERO;
    for index in 0..decoder.plan().blocks.len() {
        let block = decoder.block(index)?;
        block.forward(&x, &context)?;
        decoder.device().synchronize()?;
        let began = Instant::now();
        x = block.forward(&x, &context)?;
        decoder.device().synchronize()?;
        spent += began.elapsed();
    }
    Ok(ids.len() as f64 / spent.as_secs_f64().max(f64::MIN_POSITIVE))
}
