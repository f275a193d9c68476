//! TLS in front of the server. Owns the handshake, the certificate, and that a new one is taken up without a restart;
//! what is behind it sees bytes.
//!
//! A connection is translated by a task of its own, over a pair of sockets inside the process. So everything behind it
//! writes to a socket of the kernel as it does without TLS, and a client that does not read holds up the pair, and with
//! it the task that writes: nothing is queued here but what the pair and TLS hold (about 200 KiB).

use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, copy, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use crate::config::TlsFiles;
use crate::error::{self, Error, Kind, Result};
use crate::shutdown::Shutdown;
use crate::sync;

/// Certificates are renewed days before they end; so often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The certificate and key that handshakes use.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
    /// connections that may be translated: one lives on for a moment after its socket's session
    room: Arc<Semaphore>,
}

impl Tls {
    /// Reads the files; so many `connections` are taken at a time.
    ///
    /// # Errors
    /// [`Kind::Config`] with the file, and what is wrong with it.
    pub fn read(files: TlsFiles, connections: usize) -> Result<Self> {
        let (certificate, key) = texts(&files)?;
        let config = RwLock::new(config(&files, &certificate, &key)?);
        Ok(Self { files, config, room: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))) })
    }

    /// Takes up renewed files until the shutdown. What cannot be used is said, and the old one goes on.
    pub async fn renew(self: Arc<Self>, mut shutdown: Shutdown) {
        let mut known = texts(&self.files).ok();
        let mut is_unreadable = false;
        loop {
            tokio::select! {
                () = sleep(EVERY) => {}
                () = shutdown.begun() => return,
            }
            // two small files: reading them each time also notices what is moved or linked into place
            let now = match texts(&self.files) {
                Ok(now) => now,
                Err(error) => {
                    if !std::mem::replace(&mut is_unreadable, true) {
                        tracing::error!(event = "certificate_unreadable", error = error::chain(&error));
                    }
                    continue;
                }
            };
            is_unreadable = false;
            if known.as_ref() == Some(&now) {
                continue;
            }
            match config(&self.files, &now.0, &now.1) {
                Ok(config) => {
                    *sync::write(&self.config) = config;
                    tracing::info!(event = "certificate_renewed");
                }
                // half of a renewal, most likely: the other file is still the old one
                Err(error) => tracing::warn!(event = "certificate_unusable", error = error::chain(&error)),
            }
            known = Some(now);
        }
    }

    /// A client's connection, once the handshake is through.
    pub(super) async fn handshake(&self, tcp: TcpStream) -> Option<TlsStream<TcpStream>> {
        let config = sync::read(&self.config).clone();
        match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(tcp)).await {
            Ok(Ok(secured)) => Some(secured),
            Ok(Err(error)) => {
                tracing::debug!(event = "tls_handshake_failed", %error);
                None
            }
            Err(_) => None,
        }
    }

    /// The plain side of a client's connection, once the handshake is through.
    pub(super) async fn accept(&self, tcp: TcpStream, tasks: &TaskTracker) -> Option<UnixStream> {
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            tracing::debug!(event = "tls_full");
            return None;
        };
        let secured = self.handshake(tcp).await?;
        let (near, far) = match UnixStream::pair() {
            Ok(pair) => pair,
            Err(error) => {
                tracing::warn!(event = "tls_failed", %error);
                return None;
            }
        };
        tasks.spawn(async move {
            translate(secured, far).await;
            drop(place);
        });
        Some(near)
    }
}

/// Until the server has nothing more to say. A client that ends its side is told what is still to be told.
async fn translate(secured: TlsStream<TcpStream>, far: UnixStream) {
    let (mut from_client, mut to_client) = split(secured);
    let (mut from_server, mut to_server) = far.into_split();
    let inbound = async {
        let _ = copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let writer = async {
        let _ = copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    let mut writer = std::pin::pin!(writer);
    tokio::select! {
        () = writer.as_mut() => {}
        () = inbound => writer.await,
    }
}

fn texts(files: &TlsFiles) -> Result<(Vec<u8>, Vec<u8>)> {
    let read = |path: &str| {
        std::fs::read(path).map_err(|e| Error::new(Kind::Config, format!("cannot read {path}")).because(e))
    };
    Ok((read(&files.certificate)?, read(&files.key)?))
}

fn config(files: &TlsFiles, certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>> {
    let unfit = |path: &str, what: &str| Error::new(Kind::Config, format!("{path}: {what}"));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| unfit(&files.certificate, &format!("{e}")))?;
    if chain.is_empty() {
        return Err(unfit(&files.certificate, "there is no certificate in it, in PEM"));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| unfit(&files.key, "there is no private key in it, in PEM"))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| unfit(&files.certificate, &format!("it does not go with {}: {e}", files.key)))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
