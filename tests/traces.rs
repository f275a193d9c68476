//! OpenTelemetry: what a collector is told of a transaction whose writer names its trace.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::support::postgres::TestDatabase;
use super::support::server::TestServer;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const WRITER: &str = "b7ad6b7169203331";

const TABLES: &str = "create table public.pets (id int primary key, name text);
    create table public.users (id int primary key, name text); insert into public.users values (1, 'Lee')";

/// A collector that takes what it is sent by OTLP over HTTP.
async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<(String, ExportTraceServiceRequest)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tell = tell.clone();
            let take = service_fn(move |request: Request<Incoming>| {
                let tell = tell.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    let _ = tell.send((path, ExportTraceServiceRequest::decode(body).unwrap()));
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::new())))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), take));
        }
    });
    (address, told)
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> &'a Attribute {
    let found = attributes.iter().find(|attribute| attribute.key == name).and_then(|found| found.value.as_ref());
    found.and_then(|AnyValue { value }| value.as_ref()).unwrap_or_else(|| panic!("no {name} in {attributes:?}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_transaction_is_traced_from_its_writer_to_the_sockets() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    db.run("select rowcast.watch('public.pets'); select rowcast.watch('public.users')").await;
    let (address, mut told) = collector().await;
    let server = TestServer::start_with(&db.url, &[("otlp-endpoint", &format!("http://{address}"))]);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run(&format!(
        "begin; set local rowcast.actor = 'dr-lee traceparent=00-{TRACE}-{WRITER}-01';
         insert into public.pets values (1, 'Rex'), (2, 'Rex'); update public.users set name = 'Rex'; commit"
    ))
    .await;
    for _ in 0..2 {
        let change = socket.message().await;
        assert_eq!(change["actor"], "dr-lee", "the trace is nobody's name: {change}");
    }
    // those that the writer does not record are nobody's business, as are those of no trace
    db.run(&format!(
        "begin; set local rowcast.actor = 'traceparent=00-{TRACE}-{WRITER}-00';
         update public.pets set name = 'Max' where id = 1; commit; update public.pets set name = 'Tom'"
    ))
    .await;
    let change = socket.message().await;
    assert!(change.get("actor").is_none(), "a trace alone is no actor: {change}");
    server.stop().await.unwrap();

    let (path, request) = told.recv().await.unwrap();
    assert_eq!(path, "/v1/traces");
    let [resource] = &request.resource_spans[..] else { panic!("{request:?}") };
    let of = |name| attribute(&resource.resource.as_ref().unwrap().attributes, name);
    assert_eq!(of("service.name"), &Attribute::StringValue("rowcast".into()));
    assert!(matches!(of("service.instance.id"), Attribute::StringValue(node) if node.len() == 8));
    let spans: Vec<&Span> = resource.scope_spans.iter().flat_map(|scope| &scope.spans).collect();
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["commit and read", "route", "write to sockets", "rowcast deliver"]);
    let whole = spans[3];
    assert_eq!((hex(&whole.trace_id), hex(&whole.parent_span_id)), (TRACE.to_owned(), WRITER.to_owned()));
    assert_eq!(attribute(&whole.attributes, "rowcast.changes"), &Attribute::IntValue(3));
    let Attribute::ArrayValue(channels) = attribute(&whole.attributes, "rowcast.channels") else { panic!("{whole:?}") };
    assert_eq!(channels.values.len(), 2, "{channels:?}");
    let mut from = whole.start_time_unix_nano;
    for span in &spans[..3] {
        assert_eq!((&span.trace_id, &span.parent_span_id), (&whole.trace_id, &whole.span_id));
        assert_eq!(span.start_time_unix_nano, from, "each goes on where the last one ended: {spans:?}");
        from = span.end_time_unix_nano;
    }
    assert_eq!(from, whole.end_time_unix_nano);
    assert!(!format!("{request:?}").contains("Rex"), "no row is in a trace");
    assert!(told.try_recv().is_err(), "nothing else is recorded");
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nobody_up() {
    let db = TestDatabase::new().await;
    db.run(TABLES).await;
    db.run("select rowcast.watch('public.pets')").await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = TestServer::start_with(&db.url, &[("otlp-endpoint", &format!("http://{nobody}"))]);
    let mut socket = server.subscribed("/ws/pets").await;
    db.run(&format!(
        "begin; set local rowcast.actor = 'traceparent=00-{TRACE}-{WRITER}-01';
         insert into public.pets values (1, 'Rex'); commit"
    ))
    .await;
    socket.message().await;
    server.stop().await.unwrap();
}
