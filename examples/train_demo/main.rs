//! Trains the bundled demo model, from nothing but a seed: writes the text, trains a tokenizer and a small LLaMA on it,
//! and saves both with held-out text as an ordinary Hugging Face directory.
//!
//! ```text
//! cargo run --release --example train_demo -- --out assets/demo
//! ```
//!
//! `docs/DEMO_MODEL.md` tells what comes out and why the norm weights start uneven.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Parser;

use crate::model::{Decoder, Shape};
use crate::rng::Rng;
use crate::text::HeldOut;
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

/// The seed of the bundled model.
const DEFAULT_SEED: u64 = 17;
const TRAIN_BYTES: usize = 6_000_000;
/// The tokenizer learns from so much of the training text: the world is small, more adds nothing.
const TOKENIZER_PAGES: usize = 1_000;

/// Trains the bundled demo model.
#[derive(Debug, Parser)]
struct Args {
    /// The directory to write.
    #[arg(long)]
    out: PathBuf,
    /// Fixes the text, the starting weights and the batches.
    #[arg(long, default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Optimizer steps, of 2048 tokens each.
    #[arg(long, default_value_t = 1_500)]
    steps: usize,
    /// Standard deviation of the logarithm of the norm weights at the start.
    #[arg(long, default_value_t = 1.0)]
    norm_spread: f64,
    /// The highest learning rate.
    #[arg(long, default_value_t = 3e-3)]
    peak_rate: f64,
    /// Threads of one tensor operation.
    #[arg(long, env = "CANDLE_NUM_THREADS", hide = true)]
    operation_threads: Option<usize>,
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

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.operation_threads.is_none() {
        return restart_with_one_thread_per_operation();
    }
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create {}", args.out.display()))?;

    let held_out = HeldOut::write(args.seed);
    fs::write(
        args.out.join("calibration.txt"),
        held_out.calibration.concat(),
    )?;
    fs::write(args.out.join("test.txt"), held_out.test.concat())?;

    let pages = text::write_training_pages(args.seed, TRAIN_BYTES, &held_out);
    let tokenizer = tokenizer::train(&pages[..TOKENIZER_PAGES], shape().vocab)?;
    let stream = tokenizer::encode_pages(&tokenizer, &pages)?;
    let decoder = Decoder::new(shape(), args.norm_spread, &mut Rng::new(args.seed, 4))?;
    let n_weights: usize = decoder
        .weights()
        .iter()
        .map(|(_, var)| var.elem_count())
        .sum();
    writeln!(
        io::stderr(),
        "{n_weights} weights, {} tokens to train on",
        stream.len()
    )?;

    let schedule = Schedule {
        n_steps: args.steps,
        peak_rate: args.peak_rate,
    };
    training::train(&decoder, &stream, schedule, &mut Rng::new(args.seed, 5))?;
    checkpoint::write(&args.out, &decoder, &tokenizer)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs this program again with candle's own threads off: it reads their number from the environment, once. Training
/// computes the parts of a batch side by side, and operations that share threads across the parts wait for each other.
fn restart_with_one_thread_per_operation() -> Result<ExitCode> {
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("CANDLE_NUM_THREADS", "1")
        .status()
        .context("cannot start this program again")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
