//! TLS towards an exporter with `method = https`.

use std::sync::Arc;

use time::OffsetDateTime;

use super::pem_files::{FileReader, FileUses, ders};
use crate::{
    common::{error::Chain, exporter::UpstreamTls},
    config::{Located, UpstreamTlsConfig},
    tls::{
        Servers, Trust, client_tls,
        inspect::{self, Anchors, Own},
        pem::Purpose,
        provider,
    },
};

/// Reads the files. A problem that concerns none of them is reported at `owner`.
pub(super) fn load<T>(
    reader: &mut FileReader<'_>,
    owner: &Located<T>,
    tls: &UpstreamTlsConfig,
) -> Option<UpstreamTls> {
    // All files are read before the first `?`, so that an error in one does not hide errors in the
    // others.
    let servers = (!tls.skip_verify).then(|| trusted(reader, owner, tls));
    let client_pair = tls.client_pair.as_ref().map(|(certificate, key)| {
        let uses: FileUses<'_> =
            &[(Purpose::Chain, &certificate.value), (Purpose::Key, &key.value)];
        let chain = reader.certificates(certificate, Purpose::Chain, uses);
        if let Some(chain) = &chain {
            let problems = inspect::chain(chain, Own::Client, OffsetDateTime::now_utc());
            reader.problems(certificate, problems);
        }
        (chain.as_ref().map(ders), reader.key(key, uses), key)
    });
    let servers = match servers {
        Some(trusted) => Servers::Of(trusted?),
        None => Servers::Any,
    };
    let (pair, key) = match client_pair {
        None => (None, None),
        Some((chain, private_key, key)) => (Some((chain?, private_key?)), Some(key)),
    };
    match client_tls(servers, pair) {
        Ok(config) => {
            Some(UpstreamTls { config: Arc::new(config), server_name: tls.server_name.clone() })
        }
        Err(error) => {
            let message = Chain(&error).to_string();
            let diagnostic = match key {
                Some(key) => key.error(message),
                None => owner.error(message),
            };
            reader.diagnostics.push(diagnostic);
            None
        }
    }
}

fn trusted<T>(
    reader: &mut FileReader<'_>,
    owner: &Located<T>,
    tls: &UpstreamTlsConfig,
) -> Option<Trust> {
    let algorithms = provider().signature_verification_algorithms;
    match &tls.ca {
        Some(file) => {
            let anchors = reader.certificates(file, Purpose::ServerAuthorities, &[])?;
            let name = tls.server_name.to_str();
            let role = Anchors::OfServers { name: &name };
            let problems = inspect::anchors(&anchors, role, OffsetDateTime::now_utc());
            if !reader.problems(file, problems) {
                return None;
            }
            match Trust::new(ders(&anchors), Vec::new(), algorithms) {
                Ok(trust) => Some(trust),
                Err(error) => {
                    let message = format!("{}: {}", file.value.display(), Chain(&error));
                    reader.diagnostics.push(file.error(message));
                    None
                }
            }
        }
        None => {
            // The system's trust store may contain certificates that cannot be read. They are
            // skipped.
            let certificates = rustls_native_certs::load_native_certs().certs;
            let trust = Trust::in_usable(certificates, algorithms);
            if trust.is_err() {
                let message = "the system trust store has no usable CA certificate: name a CA file";
                reader.diagnostics.push(owner.error(message));
            }
            trust.ok()
        }
    }
}
