//! TLS as the `ssl_…` parameters of a `rediss://` URL ask for it.

use std::path::PathBuf;

use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};

/// kombu's parameters; without any, the server's certificate is checked against the system's
/// authorities.
#[derive(Debug, Clone, Default)]
pub(super) struct Tls {
    /// `ssl_cert_reqs` is none: nobody knows who answers.
    unchecked: bool,
    /// `ssl_check_hostname` is false: a certificate for another name will do.
    any_host: bool,
    /// `ssl_ca_certs`: the authorities, in place of the system's.
    authorities: Option<PathBuf>,
    /// `ssl_certfile`: who we are.
    certificate: Option<PathBuf>,
    /// `ssl_keyfile`: its private key.
    key: Option<PathBuf>,
}

impl Tls {
    /// Takes one parameter of the URL.
    pub(super) fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "ssl_cert_reqs" => {
                self.unchecked = match value.trim_start_matches("CERT_").to_lowercase().as_str() {
                    // To a client they are the same: a server always shows its certificate.
                    "required" | "optional" => false,
                    "none" => true,
                    _ => return Err("ssl_cert_reqs is required, optional or none".to_owned()),
                };
            }
            "ssl_check_hostname" => self.any_host = value.eq_ignore_ascii_case("false"),
            "ssl_ca_certs" => self.authorities = Some(value.into()),
            "ssl_certfile" => self.certificate = Some(value.into()),
            "ssl_keyfile" => self.key = Some(value.into()),
            _ => {
                return Err(format!(
                    "{name} is not known; there are ssl_cert_reqs, ssl_check_hostname, \
                     ssl_ca_certs, ssl_certfile and ssl_keyfile"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn address(&self, host: String, port: u16) -> ConnectionAddr {
        ConnectionAddr::TcpTls { host, port, insecure: self.unchecked, tls_params: None }
    }

    /// A client whose connections are encrypted.
    pub(super) fn client(&self, info: ConnectionInfo) -> Result<Client, String> {
        // An error says that the program has chosen one already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let certificates = TlsCertificates {
            client_tls: match (&self.certificate, &self.key) {
                (Some(certificate), Some(key)) => Some(ClientTlsConfig {
                    client_cert: pem("ssl_certfile", certificate, "CERTIFICATE")?,
                    client_key: pem("ssl_keyfile", key, "PRIVATE KEY")?,
                }),
                (None, None) => None,
                _ => return Err("ssl_certfile and ssl_keyfile need each other".to_owned()),
            },
            root_cert: match &self.authorities {
                Some(path) => Some(pem("ssl_ca_certs", path, "CERTIFICATE")?),
                None => None,
            },
        };
        let client =
            Client::build_with_tls(info, certificates).map_err(|error| error.to_string())?;
        if !self.any_host {
            return Ok(client);
        }
        let info = client.get_connection_info().clone();
        let mut address = info.addr().clone();
        address.set_danger_accept_invalid_hostnames(true);
        Client::open(info.set_addr(address)).map_err(|error| error.to_string())
    }

    /// What an operator should know.
    pub(super) fn warning(&self) -> Option<String> {
        let left_out = if self.unchecked {
            "the server's certificate is not checked (ssl_cert_reqs=none)"
        } else if self.any_host {
            "the name in the server's certificate is not checked (ssl_check_hostname=false)"
        } else {
            return None;
        };
        Some(format!("{left_out}: whoever is between can read and change every message"))
    }
}

fn pem(name: &str, path: &PathBuf, content: &str) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path)
        .map_err(|error| format!("{name}: cannot read {}: {error}", path.display()))?;
    if !String::from_utf8_lossy(&bytes).contains(&format!("{content}-----")) {
        return Err(format!("{name}: {} holds no {content} in PEM form", path.display()));
    }
    Ok(bytes)
}
