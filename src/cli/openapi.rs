//! `secateur openapi`: the API's description, as a file to commit and to generate clients from.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use crate::http;

/// Print the description of the API (an `OpenAPI` document).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write it to this file instead
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    write: Option<PathBuf>,

    /// Fail when this file is not what would be written
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// Makes the document from the routes of this program.
pub fn run(args: Args) -> anyhow::Result<()> {
    let document = format!("{:#}\n", http::document());
    if let Some(path) = args.write {
        std::fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))
    } else if let Some(path) = args.check {
        let committed = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::ensure!(
            committed == document,
            "{} is out of date, write it again with --write",
            path.display()
        );
        Ok(())
    } else {
        std::io::stdout()
            .write_all(document.as_bytes())
            .context("cannot write to standard output")
    }
}
