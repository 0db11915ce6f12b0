//! The facts of an X.509 certificate that the daemon goes by: the names in it, and from when to when it is valid.
//!
//! Signatures are not looked at here; rustls verifies them.

use std::time::Duration;

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use crate::core::model::WallTime;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A certificate of weeks or months should be replaced when this is left of it.
const SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The facts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The DNS names of its extension for alternative names.
    pub names: Vec<String>,
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// It is valid from this moment on.
    pub not_before: WallTime,
    /// It is valid until this moment.
    pub not_after: WallTime,
}

impl CertificateFacts {
    /// The facts of a certificate in DER; `None` for what is no certificate.
    pub fn read(der: &[u8]) -> Option<CertificateFacts> {
        let read = Certificate::from_der(der).ok()?.tbs_certificate;
        let alternatives = read.get::<SubjectAltName>().ok()?.map(|(_, found)| found.0).unwrap_or_default();
        let names = alternatives.into_iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            _ => None,
        });
        let attributes = read.subject.0.iter().flat_map(|part| part.0.iter());
        let common_name = attributes.filter(|attribute| attribute.oid == COMMON_NAME).find_map(|attribute| {
            let value = &attribute.value;
            let text = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
            let text = text.or_else(|_| value.decode_as::<PrintableStringRef<'_>>().map(|t| t.as_str().to_owned()));
            text.or_else(|_| value.decode_as::<TeletexStringRef<'_>>().map(|t| t.as_str().to_owned())).ok()
        });
        let moment = |time: Time| {
            let since = time.to_unix_duration();
            WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        };
        let (not_before, not_after) = (moment(read.validity.not_before), moment(read.validity.not_after));
        Some(CertificateFacts { names: names.collect(), common_name, not_before, not_after })
    }

    /// Is this one of its names? The common name counts where there is no alternative name, as RFC 6125 has it. A
    /// wildcard stands for itself: it names no single client.
    pub fn is_named(&self, name: &str) -> bool {
        if self.names.is_empty() {
            return self.common_name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        }
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// From when to when it is valid.
    pub fn lifetime(&self) -> Duration {
        self.not_after.since(self.not_before)
    }

    /// When a third of its life is left: a new one is due from then on.
    pub fn renewal(&self) -> WallTime {
        self.not_before.plus(self.lifetime().mul_f64(2.0 / 3.0))
    }

    /// From when on it should have been replaced: seven days before its end, or when a sixth of its life is left, for
    /// one that lives for days.
    pub fn warning(&self) -> WallTime {
        let left = SOON.min(self.lifetime() / 6);
        self.not_before.plus(self.lifetime() - left)
    }

    /// Is it valid, and should it have been replaced?
    pub fn expires_soon(&self, now: WallTime) -> bool {
        self.warning() <= now && now < self.not_after
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn facts(names: &[&str], common_name: Option<&str>) -> CertificateFacts {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2026, 4, 1));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        CertificateFacts::read(certificate.der()).unwrap()
    }

    #[test]
    fn the_common_name_counts_where_there_is_no_other() {
        let both = facts(&["a.example.com", "*.b.example.com"], Some("c.example.com"));
        assert_eq!(both.common_name.as_deref(), Some("c.example.com"));
        for (name, is_named) in [
            ("a.example.com", true),
            ("A.Example.COM", true),
            ("c.example.com", false),
            ("x.b.example.com", false),
            ("", false),
        ] {
            assert_eq!(both.is_named(name), is_named, "{name}");
        }
        assert!(facts(&[], Some("C.example.com")).is_named("c.example.com"));
        assert!(!facts(&[], None).is_named(""));
    }

    #[test]
    fn a_new_one_is_due_when_a_third_of_its_life_is_left() {
        let facts = facts(&["a.example.com"], None);
        assert_eq!(facts.not_before.rfc3339(), "2026-01-01T00:00:00Z");
        assert_eq!(facts.not_after.rfc3339(), "2026-04-01T00:00:00Z");
        assert_eq!(facts.renewal().rfc3339(), "2026-03-02T00:00:00Z");
    }

    #[test]
    fn it_should_have_been_replaced_a_week_before_its_end_or_when_a_sixth_of_a_short_life_is_left() {
        let long = facts(&["a.example.com"], None);
        assert_eq!(long.warning().rfc3339(), "2026-03-25T00:00:00Z");
        let hour = |hours: u64| long.not_before.plus(Duration::from_secs(hours * 60 * 60));
        let day = CertificateFacts { not_after: hour(24), ..long.clone() };
        assert_eq!(day.warning(), hour(20));
        assert!(!day.expires_soon(hour(19)) && day.expires_soon(hour(20)) && day.expires_soon(hour(23)));
        assert!(!day.expires_soon(hour(24)), "it has expired");
    }

    #[test]
    fn other_bytes_are_no_certificate() {
        for bytes in [b"".as_slice(), b"\x30\x00", b"-----BEGIN CERTIFICATE-----", &[0xff; 64]] {
            assert_eq!(CertificateFacts::read(bytes), None);
        }
    }
}
