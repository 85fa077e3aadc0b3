//! Decryption of private keys: PKCS#8's `EncryptedPrivateKeyInfo` with PBES2 (RFC 5958, RFC 8018), which `openssl pkcs8
//! -topk8` and `openssl genpkey` write. PBKDF2 and AES are aws-lc-rs's.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use der::asn1::OctetStringRef;
use der::{Reader, SliceReader};
use pkcs5::EncryptionScheme;
use pkcs5::pbes2::{EncryptionScheme as Cipher, Kdf, Parameters, Pbkdf2Params, Pbkdf2Prf};

use crate::{Problem, Secret};

/// The most iterations of PBKDF2, some seconds of work: a file asks for no more.
const ITERATIONS_MAX: u32 = 10_000_000;

/// Decrypts a private key; the result is PKCS#8.
///
/// # Errors
/// Another encryption, or another password.
pub(crate) fn decrypt(der: &[u8], password: &Secret) -> Result<Vec<u8>, Problem> {
    let unknown = |scheme: &str| Problem::Scheme {
        scheme: scheme.to_owned(),
    };
    let (scheme, data) =
        read(der).map_err(|error| unknown(&format!("an unknown scheme ({error})")))?;
    let EncryptionScheme::Pbes2(Parameters { kdf, encryption }) = scheme else {
        return Err(unknown("PBES1"));
    };
    let Kdf::Pbkdf2(kdf) = kdf else {
        return Err(unknown("scrypt"));
    };
    let (algorithm, iv) = match encryption {
        Cipher::Aes128Cbc { iv } => (&AES_128, iv),
        Cipher::Aes192Cbc { iv } => (&AES_192, iv),
        Cipher::Aes256Cbc { iv } => (&AES_256, iv),
        _ => return Err(unknown("a cipher other than AES in CBC mode")),
    };
    let key = derive(&kdf, password, encryption.key_size())
        .ok_or_else(|| unknown("other parameters of PBKDF2"))?;
    open(algorithm, &key, iv, &data).ok_or(Problem::Password)
}

fn read(der: &[u8]) -> der::Result<(EncryptionScheme, Vec<u8>)> {
    let mut reader = SliceReader::new(der)?;
    let read = reader.sequence(|inner| {
        let scheme: EncryptionScheme = inner.decode()?;
        let data: &OctetStringRef = inner.decode()?;
        Ok::<_, der::Error>((scheme, data.as_bytes().to_vec()))
    })?;
    reader.finish()?;
    Ok(read)
}

fn derive(kdf: &Pbkdf2Params, password: &Secret, key_bytes: usize) -> Option<Vec<u8>> {
    let algorithm = match kdf.prf {
        Pbkdf2Prf::HmacWithSha1 => pbkdf2::PBKDF2_HMAC_SHA1,
        Pbkdf2Prf::HmacWithSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        Pbkdf2Prf::HmacWithSha384 => pbkdf2::PBKDF2_HMAC_SHA384,
        Pbkdf2Prf::HmacWithSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return None,
    };
    let iterations = NonZeroU32::new(kdf.iteration_count)?;
    if iterations.get() > ITERATIONS_MAX {
        return None;
    }
    let mut key = vec![0; key_bytes];
    let secret = password.0.as_bytes();
    pbkdf2::derive(algorithm, iterations, kdf.salt.as_bytes(), secret, &mut key);
    Some(key)
}

fn open(algorithm: &'static Algorithm, key: &[u8], iv: [u8; 16], data: &[u8]) -> Option<Vec<u8>> {
    let key = UnboundCipherKey::new(algorithm, key).ok()?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
    let mut data = data.to_vec();
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let plain = key.decrypt(&mut data, context).ok()?;
    // the padding of a wrong password is right once in 256 times, and what is no sequence is no key
    plain.starts_with(&[0x30]).then(|| plain.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem;

    /// Made by `openssl genpkey -algorithm ed25519` and `openssl pkcs8 -topk8`, with the password `secret`.
    const ENCRYPTED: &str = include_str!("encrypted_key_tests.pem");

    #[test]
    fn a_key_that_openssl_encrypted_is_decrypted() {
        let sections = pem::sections(ENCRYPTED.as_bytes()).expect("is PEM");
        let [plain, rest @ ..] = &sections[..] else {
            unreachable!("there are some");
        };
        for encrypted in rest {
            let password = Secret("secret".to_owned());
            let opened = decrypt(&encrypted.der, &password).expect("is decrypted");
            assert_eq!(opened, plain.der);
            let wrong = decrypt(&encrypted.der, &Secret("other".to_owned()));
            assert!(matches!(wrong, Err(Problem::Password)), "{wrong:?}");
        }
        assert!(rest.len() > 2);
    }

    #[test]
    fn damaged_keys_are_refused() {
        let sections = pem::sections(ENCRYPTED.as_bytes()).expect("is PEM");
        let whole = &sections[1].der;
        let password = Secret("secret".to_owned());
        for length in 0..whole.len() {
            decrypt(&whole[..length], &password).expect_err("is cut");
        }
        let unencrypted = decrypt(&sections[0].der, &password).expect_err("is not encrypted");
        assert!(matches!(unencrypted, Problem::Scheme { .. }));
    }
}
