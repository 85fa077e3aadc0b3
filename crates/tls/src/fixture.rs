//! An authority that issues certificates, for tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct Leaf<'a> {
    /// The common name of its subject.
    pub name: &'a str,
    /// The hosts and addresses that it names.
    pub hosts: &'a [&'a str],
    /// The year at whose beginning its validity begins.
    pub from: i32,
    /// The year at whose beginning its validity ends.
    pub until: i32,
    /// The extended key usage: `None` allows everything.
    pub usage: Option<ExtendedKeyUsagePurpose>,
}

impl<'a> Leaf<'a> {
    /// A certificate of this machine that is valid for a long time.
    #[must_use]
    pub fn local(name: &'a str) -> Self {
        Self {
            name,
            hosts: &["localhost", "127.0.0.1"],
            from: 2000,
            until: 2200,
            usage: None,
        }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    /// An authority of this name, with a key of its own.
    ///
    /// # Panics
    /// The machine has no randomness.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its certificate in PEM, for those who trust it.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for a new key. Returns the key and the certificate, in PEM.
    ///
    /// # Panics
    /// A host is neither a name nor an address.
    #[must_use]
    pub fn issue(&self, leaf: &Leaf<'_>) -> (String, String) {
        let hosts: Vec<String> = leaf.hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut asked = CertificateParams::new(hosts).expect("are hosts");
        asked.distinguished_name = params(leaf.name).distinguished_name;
        asked.not_before = date_time_ymd(leaf.from, 1, 1);
        asked.not_after = date_time_ymd(leaf.until, 1, 1);
        asked.extended_key_usages = leaf.usage.iter().cloned().collect();
        let key = KeyPair::generate().expect("a key");
        let issued = asked.signed_by(&key, &self.0).expect("is signed");
        (key.serialize_pem(), issued.pem())
    }

    /// Issues a certificate for a new key. Returns both in one text, as `ssl.keystore.location` has them.
    #[must_use]
    pub fn keystore(&self, leaf: &Leaf<'_>) -> String {
        let (key, certificate) = self.issue(leaf);
        format!("{key}{certificate}")
    }
}
