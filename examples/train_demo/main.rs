//! Trains the bundled demo model, from nothing but a seed: writes the text, trains a tokenizer and a small LLaMA on it,
//! and saves both with held-out text as an ordinary Hugging Face directory.
//!
//! ```text
//! cargo run --release --example train_demo -- --out assets/demo
//! ```
//!
//! docs/DEMO_MODEL.md tells what comes out and why the norm weights start uneven.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use crate::model::{Decoder, Shape};
use crate::rng::Rng;
use crate::training::Schedule;

mod checkpoint;
mod model;
mod ops;
mod paragraphs;
mod rng;
mod text;
mod tokenizer;
mod training;
mod world;

const TRAIN_BYTES: usize = 6_000_000;
const CALIBRATION_BYTES: usize = 200_000;
const TEST_BYTES: usize = 100_000;
/// The tokenizer learns from so much of the training text: the world is small, more adds nothing.
const TOKENIZER_PAGES: usize = 1_000;

/// Trains the bundled demo model.
#[derive(Debug, Parser)]
struct Args {
    /// The directory to write.
    #[arg(long)]
    out: PathBuf,
    /// Fixes the text, the starting weights and the batches.
    #[arg(long, default_value_t = 17)]
    seed: u64,
    /// Optimizer steps of 2048 tokens.
    #[arg(long, default_value_t = 1_200)]
    steps: usize,
    /// Standard deviation of the logarithm of the norm weights at the start.
    #[arg(long, default_value_t = 1.0)]
    norm_spread: f64,
    /// The highest learning rate.
    #[arg(long, default_value_t = 3e-3)]
    peak_rate: f64,
}

fn shape() -> Shape {
    Shape {
        vocab: 768,
        hidden: 128,
        intermediate: 320,
        n_blocks: 4,
        n_heads: 4,
        n_kv_heads: 2,
        max_positions: 256,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;

    let pages = |stream, min_bytes| text::write_pages(&mut Rng::new(args.seed, stream), min_bytes);
    let (train, calibration, test) = (pages(1, TRAIN_BYTES), pages(2, CALIBRATION_BYTES), pages(3, TEST_BYTES));
    fs::write(args.out.join("calibration.txt"), calibration.concat())?;
    fs::write(args.out.join("test.txt"), test.concat())?;

    let tokenizer = tokenizer::train(&train[..TOKENIZER_PAGES.min(train.len())], shape().vocab)?;
    let stream = tokenizer::encode_pages(&tokenizer, &train)?;
    writeln!(
        io::stderr(),
        "tokens: {} for training, {} for calibration, {} for the test",
        stream.len(),
        tokenizer::encode_pages(&tokenizer, &calibration)?.len(),
        tokenizer::encode_pages(&tokenizer, &test)?.len()
    )?;

    let decoder = Decoder::new(shape(), args.norm_spread, &mut Rng::new(args.seed, 4))?;
    let n_weights: usize = decoder.weights().iter().map(|(_, var)| var.elem_count()).sum();
    writeln!(io::stderr(), "{n_weights} weights")?;
    let schedule = Schedule { n_steps: args.steps, peak_rate: args.peak_rate, seq_len: 128 };
    training::train(&decoder, &stream, schedule, &mut Rng::new(args.seed, 5))?;
    checkpoint::write(&args.out, &decoder, &tokenizer)
}
