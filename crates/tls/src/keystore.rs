//! Reads keys, chains and trust, and checks them.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::pem::{Section, sections};
use crate::{Certificate, Error, Keystore, Problem, Secret, Settings, Source, encrypted_key};

/// The largest file that is read. The certificates of a few hundred authorities take less.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The texts that settings lead to, as they were when they were read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Texts {
    keystore: Option<KeystoreTexts>,
    trust: Option<Text>,
}

#[derive(Clone, PartialEq, Eq)]
struct KeystoreTexts {
    chain: Text,
    /// `None` if the key is in the text of the chain.
    key: Option<Text>,
}

/// A text and its place.
#[derive(Clone, PartialEq, Eq)]
struct Text {
    place: String,
    bytes: Vec<u8>,
}

// they have private keys
impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Texts")
    }
}

impl Texts {
    /// Reads every file of the settings. It blocks for as long as the file system does.
    ///
    /// # Errors
    /// A file that can't be read, or is too large.
    pub(crate) fn read(settings: &Settings) -> Result<Self, Error> {
        let keystore = match &settings.keystore {
            None => None,
            Some(Keystore::File(path)) => Some(KeystoreTexts {
                chain: read_file(path)?,
                key: None,
            }),
            Some(Keystore::Texts { chain, key }) => Some(KeystoreTexts {
                chain: read(chain)?,
                key: Some(read(key)?),
            }),
        };
        let trust = settings.truststore.as_ref().map(read).transpose()?;
        Ok(Self { keystore, trust })
    }

    /// The own key and chain, and what people need of its first certificate.
    ///
    /// # Errors
    /// They can't be used at this time, in seconds since 1970.
    pub(crate) fn own(
        &self,
        password: Option<&Secret>,
        provider: &CryptoProvider,
        now: u64,
    ) -> Result<Option<(Arc<CertifiedKey>, Certificate)>, Error> {
        let Some(keystore) = &self.keystore else {
            return Ok(None);
        };
        let chain_text = &keystore.chain;
        let in_chain = |problem: Problem| problem.at(&chain_text.place);
        let chain_sections = sections(&chain_text.bytes).map_err(in_chain)?;
        let (chain, own) = chain(&chain_sections, now).map_err(in_chain)?;
        let key = match &keystore.key {
            None => key(chain_sections, password).map_err(in_chain)?,
            Some(text) => {
                let in_key = |problem: Problem| problem.at(&text.place);
                let sections = sections(&text.bytes).map_err(in_key)?;
                key(sections, password).map_err(in_key)?
            }
        };
        let key_place = keystore.key.as_ref().unwrap_or(chain_text).place.as_str();
        let loaded = provider.key_provider.load_private_key(key);
        let loaded = loaded.map_err(|error| Problem::Key(error.to_string()).at(key_place))?;
        let certified = CertifiedKey::new(chain, loaded);
        if certified.keys_match().is_err() {
            return Err(Problem::OtherKey(own).at(key_place));
        }
        Ok(Some((Arc::new(certified), own)))
    }

    /// The certificates that are trusted.
    ///
    /// # Errors
    /// There is none, or one that can't be used.
    pub(crate) fn trust(&self) -> Result<Option<Arc<RootCertStore>>, Error> {
        let Some(text) = &self.trust else {
            return Ok(None);
        };
        let wrong = |problem: Problem| problem.at(&text.place);
        let sections = sections(&text.bytes).map_err(wrong)?;
        let mut roots = RootCertStore::empty();
        for (number, der) in (1..).zip(certificates(&sections)) {
            let added = roots.add(CertificateDer::from(der.to_vec()));
            added.map_err(|error| {
                let why = error.to_string();
                wrong(Problem::Certificate { number, why })
            })?;
        }
        if roots.is_empty() {
            return Err(wrong(Problem::NoCertificate));
        }
        Ok(Some(Arc::new(roots)))
    }
}

fn read(source: &Source) -> Result<Text, Error> {
    match source {
        Source::File(path) => read_file(path),
        Source::Text { setting, text } => Ok(Text {
            place: setting.clone(),
            bytes: text.0.clone().into_bytes(),
        }),
    }
}

fn read_file(path: &Path) -> Result<Text, Error> {
    let place = path.display().to_string();
    let mut bytes = Vec::new();
    let file = File::open(path);
    let read = file.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(Problem::Read(error).at(&place)),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            let limit = FILE_BYTES_MAX;
            Err(Problem::Large { limit }.at(&place))
        }
        Ok(_) => Ok(Text { place, bytes }),
    }
}

fn certificates(sections: &[Section]) -> impl Iterator<Item = &[u8]> {
    let labels = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];
    let found = sections.iter();
    let found = found.filter(move |section| labels.contains(&&*section.label));
    found.map(|section| &*section.der)
}

/// The chain, each of whose certificates is valid at this time, and its first certificate.
fn chain(
    sections: &[Section],
    now: u64,
) -> Result<(Vec<CertificateDer<'static>>, Certificate), Problem> {
    let mut first = None;
    let mut chain = Vec::new();
    for (number, der) in (1..).zip(certificates(sections)) {
        let read = Certificate::from_der(der);
        let read = read.map_err(|why| Problem::Certificate { number, why })?;
        if now > read.not_after {
            return Err(Problem::Expired(read));
        }
        if now < read.not_before {
            return Err(Problem::NotYetValid(read));
        }
        first.get_or_insert(read);
        chain.push(CertificateDer::from(der.to_vec()));
    }
    Ok((chain, first.ok_or(Problem::NoCertificate)?))
}

fn key(
    sections: Vec<Section>,
    password: Option<&Secret>,
) -> Result<PrivateKeyDer<'static>, Problem> {
    let mut keys = sections;
    keys.retain(|section| section.label.ends_with("PRIVATE KEY"));
    let count = keys.len();
    let (Some(key), 1) = (keys.pop(), count) else {
        return Err(Problem::Keys { count });
    };
    match key.label.as_str() {
        "PRIVATE KEY" => Ok(PrivatePkcs8KeyDer::from(key.der).into()),
        "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(key.der).into()),
        "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(key.der).into()),
        "ENCRYPTED PRIVATE KEY" => {
            let password = password.ok_or(Problem::NoPassword)?;
            let key = encrypted_key::decrypt(&key.der, password)?;
            Ok(PrivatePkcs8KeyDer::from(key).into())
        }
        other => Err(Problem::Key(format!("{other} is not supported"))),
    }
}
