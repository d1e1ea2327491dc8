//! The `secateur` program.

fn main() {}
