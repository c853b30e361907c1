//! The `eml` program.

fn main() {}
