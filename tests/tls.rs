//! TLS: the same promises over encrypted connections, and a certificate that is renewed without a restart.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::support::PATIENCE;
use super::support::postgres::TestDatabase;
use super::support::server::TestServer;
use super::support::socket::Socket;

/// A certificate for localhost in files of a folder of its own, which is gone afterwards.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("rowcast-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn settings(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| self.0.join(name).to_str().unwrap().to_owned();
        [("tls-certificate", path("certificate.pem")), ("tls-key", path("key.pem"))]
    }

    /// Writes a new one.
    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.0.join("certificate.pem"), made.cert.pem()).unwrap();
        std::fs::write(self.0.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(db: &TestDatabase, files: &Files, more: &[(&'static str, &str)]) -> TestServer {
    let own = files.settings();
    let mut settings: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    settings.extend(more);
    TestServer::start_with(&db.url, &settings)
}

fn trusting(certificate: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Whether the server shows this certificate.
async fn shows(server: &TestServer, certificate: &CertificateDer<'static>) -> bool {
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(trusting(certificate)).connect(name, tcp).await.is_ok()
}

#[tokio::test]
async fn a_change_comes_over_tls_and_a_renewed_certificate_needs_no_restart() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key, name text); select rowcast.watch('pets')").await;
    let files = Files::new("renewal");
    let first = files.renew();
    let server = start(&db, &files, &[]);
    let mut socket = Socket::over_tls(server.address, "/ws/pets", trusting(&first)).await;
    assert_eq!(socket.message().await["type"], "subscribed");
    db.run("insert into pets values (1, 'Luna')").await;
    assert_eq!(socket.message().await["data"]["name"], "Luna");
    let large = "x".repeat(300_000);
    db.run(&format!("insert into pets values (2, '{large}')")).await;
    assert_eq!(socket.message().await["data"]["name"], large, "more than a TLS record and the pair hold");

    let second = files.renew();
    while !shows(&server, &second).await {}
    assert!(!shows(&server, &first).await);
    // one that cannot be used is not taken up, and open sockets never mind
    std::fs::write(files.0.join("key.pem"), "nonsense").unwrap();
    db.run("insert into pets values (3, 'Rex')").await;
    assert_eq!(socket.message().await["data"]["name"], "Rex");
    assert!(shows(&server, &second).await);
    let (stopped, code) = tokio::join!(server.stop(), socket.close_code());
    stopped.unwrap();
    assert_eq!(code, 1001);
}

#[tokio::test]
async fn a_client_that_never_reads_over_tls_is_closed_as_any_other() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key, name text); select rowcast.watch('pets')").await;
    let files = Files::new("slow");
    let certificate = files.renew();
    let server = start(&db, &files, &[("log-bytes", "65536")]);
    let mut slow = Socket::over_tls(server.address, "/ws/pets", trusting(&certificate)).await;
    assert_eq!(slow.message().await["type"], "subscribed");
    // far more than the kernel's buffers of two connections and the log hold
    let written = async {
        let mut id = 0;
        loop {
            id += 1;
            let row = format!("insert into pets values ({id}, repeat('x', 1000000))");
            db.run(&row).await;
            let mut reader = Socket::over_tls(server.address, "/ws/pets", trusting(&certificate)).await;
            assert_eq!(reader.message().await["type"], "subscribed", "others are served");
            if server.status_over_tls(trusting(&certificate)).await["closed_too_slow"] != 0 {
                return id;
            }
        }
    };
    let written = tokio::time::timeout(PATIENCE, written).await.expect("closed in time");
    assert!(written < 60, "{written} MB were held for it");
    drop(slow);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn files_that_are_no_certificate_end_the_start_with_their_name() {
    let db = TestDatabase::new().await;
    let files = Files::new("unfit");
    files.renew();
    std::fs::write(files.0.join("key.pem"), "nonsense").unwrap();
    let error = start(&db, &files, &[]).stop().await.unwrap_err().to_string();
    assert!(error.contains("key.pem") && error.contains("no private key"), "{error}");
    std::fs::remove_file(files.0.join("certificate.pem")).unwrap();
    let error = start(&db, &files, &[]).stop().await.unwrap_err().to_string();
    assert!(error.contains("certificate.pem"), "{error}");
}

/// Has the server itself make files of these and encrypt from now on: it may be a container.
async fn encrypt(db: &TestDatabase, certificate: &str, key: &str) {
    for (name, text) in [("test.crt", certificate), ("test.key", key)] {
        // nothing but what a shell can do by itself: an image may hold no other program
        let lines: Vec<String> = text.lines().map(|line| format!("''{line}''")).collect();
        let write = format!("read x; umask 077; printf ''%s\\n'' {} > {name}", lines.join(" "));
        db.run(&format!("copy (select 1) to program '{write}'")).await;
    }
    for set in ["ssl_cert_file = 'test.crt'", "ssl_key_file = 'test.key'", "ssl = on"] {
        db.run(&format!("alter system set {set}")).await;
    }
    db.run("select pg_reload_conf()").await;
    while db.text("select current_setting('ssl')").await != "on" {}
}

#[tokio::test]
async fn postgres_is_reached_over_tls_and_only_with_a_certificate_that_is_known() {
    let db = TestDatabase::new().await;
    db.run("create table pets (pet_id int primary key); select rowcast.watch('pets')").await;
    let files = Files::new("database");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    encrypt(&db, &made.cert.pem(), &made.signing_key.serialize_pem()).await;
    let known = files.0.join("root.pem");
    std::fs::write(&known, made.cert.pem()).unwrap();
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", db.url, known.display());
    let server = TestServer::start(&url);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run("insert into pets values (1)").await;
    assert_eq!(socket.message().await["data"]["pet_id"], 1);
    let plain = "select count(*) from pg_stat_activity a join pg_stat_ssl s using (pid)
        where a.datname = current_database() and a.application_name like 'rowcast %' and not s.ssl and pid <> pg_backend_pid()";
    assert_eq!(db.text(plain).await, "0");
    server.stop().await.unwrap();

    let error = TestServer::start(&format!("{}?sslmode=require", db.url)).stop_by_itself().await.unwrap_err();
    let remedy = error.remedy().unwrap_or_default();
    assert!(
        remedy.contains("sslrootcert") && remedy.contains("ca-certificates"),
        "what is missing is an authority: {remedy}"
    );
    let error = rowcast::error::chain(&error);
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_connection_that_never_shakes_hands_does_not_hold_up_the_end() {
    let db = TestDatabase::new().await;
    let files = Files::new("silent");
    let certificate = files.renew();
    let server = start(&db, &files, &[]);
    let silent = TcpStream::connect(server.address).await.unwrap();
    // it is accepted: one that came later is through
    assert!(shows(&server, &certificate).await);
    let stopping = tokio::time::timeout(std::time::Duration::from_secs(5), server.stop());
    stopping.await.expect("before the handshake's ten seconds are over").unwrap();
    drop(silent);
}
