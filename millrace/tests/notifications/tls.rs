//! Endpoints with TLS.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::{Authority, Certificate};
use tokio_rustls::TlsAcceptor;

use crate::endpoint::Endpoint;
use crate::installation::Installation;
use crate::site::Site;

/// An endpoint with this certificate.
async fn start(certificate: &Certificate) -> Endpoint {
    let chain = vec![CertificateDer::from_pem_file(&certificate.certificate).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let settings = settings.expect("versions").with_no_client_auth().with_single_cert(chain, key);
    let acceptor = TlsAcceptor::from(Arc::new(settings.expect("a certificate with its key")));
    let (endpoint, listener) = Endpoint::bind().await;
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (endpoint, acceptor) = (accepting.clone(), acceptor.clone());
            tokio::spawn(async move {
                if let Ok(socket) = acceptor.accept(socket).await {
                    endpoint.serve(socket).await;
                }
            });
        }
    });
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_with_tls_gets_notifications_only_with_a_certificate_for_its_name() {
    let authority = Authority::create();
    let right = start(&authority.sign("right", "DNS:localhost")).await;
    let wrong = start(&authority.sign("wrong", "DNS:other.example")).await;
    let ca = authority.ca().display().to_string();
    let settings = [("NOTIFY_ALLOW_HOSTS", "localhost"), ("SSL_CERT_FILE", ca.as_str())];
    let url = |endpoint: &Endpoint| format!("https://localhost:{}/in", endpoint.address.port());
    let site = Site::start(Installation::on_files(), &settings, &url(&wrong)).await;
    site.reach_one().await;
    let failed = site.fails_with("no TLS connection").await;
    assert!(wrong.requests().is_empty());
    site.set_url(&url(&right)).await;
    site.retry(&failed).await;
    let sent = right.wait_for(1).await.remove(0);
    sent.verify(&site.secret);
    assert_eq!(sent.header("host"), format!("localhost:{}", right.address.port()));
}
