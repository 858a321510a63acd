//! Reads and checks every file that the configuration names: certificates, keys, CAs, CRLs,
//! credentials. The result is ready to serve. A problem is reported with the line that names the
//! file.

mod load;
mod pem_files;
mod upstream_tls;
mod validity;

pub use self::{
    load::{Assets, basic_authorization, client_tls, exporter, load},
    validity::CertificateFile,
};
