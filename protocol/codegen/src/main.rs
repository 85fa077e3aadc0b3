//! The command `highwater-codegen convert JSON_DIR | generate [--check] | compare JSON_DIR`, which runs in the
//! workspace's root.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let schema = Path::new("protocol/schema");
    let generated = Path::new("protocol/src/generated");
    let said = match args.as_slice() {
        ["convert", json] => {
            format!(
                "{} messages",
                highwater_codegen::convert(Path::new(json), schema)?
            )
        }
        ["generate"] => {
            format!(
                "{} files",
                highwater_codegen::generate(schema, generated, false)?
            )
        }
        ["generate", "--check"] => {
            format!(
                "{} files are current",
                highwater_codegen::generate(schema, generated, true)?
            )
        }
        ["compare", json] => {
            let differences = highwater_codegen::compare(Path::new(json), schema)?;
            if !differences.is_empty() {
                bail!(
                    "the schema differs from the definitions:\n{}",
                    differences.join("\n")
                );
            }
            "the schema equals the definitions".to_owned()
        }
        _ => bail!(
            "usage: highwater-codegen convert JSON_DIR | generate [--check] | compare JSON_DIR"
        ),
    };
    writeln!(std::io::stdout(), "{said}")?;
    Ok(())
}
