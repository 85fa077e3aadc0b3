//! Keys and certificates for suites with TLS, which openssl makes.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::rust::output_of;

/// Makes in a directory the certificate of an authority, `ca.crt`, and certificates of two programs on loopback by it:
/// `node` and `client`, each with its key as `.key`, `.crt`, and both in one `.pem`.
pub(crate) fn make(dir: &Path) -> Result<()> {
    let make = |name: &str, more: &[&str]| -> Result<()> {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "365"]);
        openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        openssl.args(["-subj", &format!("/CN={name}")]);
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        openssl.args(["-keyout", &key, "-out", &certificate]);
        output_of(openssl.args(more).current_dir(dir)).map(drop)
    };
    std::fs::create_dir_all(dir)?;
    make("ca", &[])?;
    for name in ["node", "client"] {
        let by = ["-CA", "ca.crt", "-CAkey", "ca.key"];
        let of_program = ["-addext", "basicConstraints=CA:FALSE"];
        let on_loopback = ["-addext", "subjectAltName=IP:127.0.0.1"];
        make(name, &[&by[..], &of_program, &on_loopback].concat())?;
        let read = |end| std::fs::read_to_string(dir.join(format!("{name}.{end}")));
        let both = read("key")? + &read("crt")?;
        std::fs::write(dir.join(format!("{name}.pem")), both)?;
    }
    Ok(())
}
