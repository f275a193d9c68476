//! Traces for OpenTelemetry: when a transaction whose writer names its trace was captured, came to this server, and was written
//! to the sockets. Owns the spans and how they are sent (OTLP over HTTP). Knows neither rows nor sockets.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hyper::body::Bytes;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::actor::TraceParent;
use crate::error::{self, Error, Kind, Result};
use crate::fetch;
use crate::refusals::Refusals;

/// A collector that has not answered by then has lost what it was sent.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// At the end what is still here is sent in this time.
const SENT_WITHIN: Duration = Duration::from_secs(3);
/// Where a collector takes spans, below the endpoint.
const PATH: &str = "/v1/traces";

/// The spans of this server.
#[derive(Debug)]
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// What a cut has of one transaction, and when it was where.
#[derive(Debug)]
pub struct Delivered {
    /// the writer's span
    pub parent: TraceParent,
    /// the transaction
    pub tx: u64,
    /// of the transaction, in this cut
    pub changes: i64,
    /// that they are told on, each once
    pub channels: Vec<Arc<str>>,
    /// the first of them, by this machine's clock
    pub captured: SystemTime,
    /// at the hub
    pub arrived: SystemTime,
    /// in every frame log
    pub routed: SystemTime,
}

impl Spans {
    /// Sends to a collector at `endpoint`, such as `http://127.0.0.1:4318`. `instance` tells this server from others.
    ///
    /// # Errors
    /// [`Kind::Config`] where the endpoint is none.
    pub fn to(endpoint: &str, instance: String) -> Result<Arc<Self>> {
        let endpoint = endpoint.trim_end_matches('/');
        let url = if endpoint.ends_with(PATH) { endpoint.to_owned() } else { format!("{endpoint}{PATH}") };
        let client = Transport { runtime: Handle::current(), told: Arc::default() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .build()
            .map_err(|e| Error::new(Kind::Config, format!("otlp-endpoint {endpoint} cannot be used")).because(e))?;
        let version = env!("CARGO_PKG_VERSION");
        // what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins over these
        let mine = [KeyValue::new("service.version", version), KeyValue::new("service.instance.id", instance)];
        let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
        let resource = Resource::builder().with_attributes(mine);
        let resource = if named { resource } else { resource.with_service_name("rowcast") };
        let provider =
            SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
        let tracer = provider.tracer("rowcast");
        Ok(Arc::new(Self { provider, tracer }))
    }

    /// A transaction was written to every socket that takes bytes. Costs microseconds; what cannot be sent is lost.
    pub fn tell(&self, delivered: Delivered, written: SystemTime) {
        let Delivered { parent, tx, changes, channels, captured, arrived, routed } = delivered;
        let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let (trace, span) = (TraceId::from(parent.trace), SpanId::from(parent.span));
        let writer = SpanContext::new(trace, span, flags, true, TraceState::NONE);
        let channels: Vec<StringValue> = channels.iter().map(|name| name.to_string().into()).collect();
        let attributes = [
            KeyValue::new("messaging.system", "rowcast"),
            KeyValue::new("rowcast.tx", tx.to_string()),
            KeyValue::new("rowcast.changes", changes),
            KeyValue::new("rowcast.channels", Value::Array(Array::String(channels))),
        ];
        let whole = SpanBuilder::from_name("rowcast deliver")
            .with_kind(SpanKind::Consumer)
            .with_attributes(attributes)
            .with_start_time(captured);
        let mut whole = self.tracer.build_with_context(whole, &Context::new().with_remote_span_context(writer));
        let inside = Context::new().with_remote_span_context(whole.span_context().clone());
        for (name, from, to) in
            [("commit and read", captured, arrived), ("route", arrived, routed), ("write to sockets", routed, written)]
        {
            let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_start_time(from);
            self.tracer.build_with_context(builder, &inside).end_with_timestamp(to);
        }
        whole.end_with_timestamp(written);
    }

    /// Sends what is still here.
    pub async fn finish(self: Arc<Self>) {
        // it blocks: the exporter has a thread of its own
        let ending = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(SENT_WITHIN));
        let _ = ending.await;
    }
}

/// One request a batch, on the runtime's threads: the exporter's own has no reactor.
#[derive(Debug)]
struct Transport {
    runtime: Handle,
    told: Arc<Refusals>,
}

#[async_trait]
impl HttpClient for Transport {
    async fn send_bytes(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let url = request.uri().to_string();
        let sending = async move {
            timeout(ANSWERED_WITHIN, fetch::send(request))
                .await
                .unwrap_or_else(|_| Err(Error::new(Kind::Connection, "there was no answer within 10 s")))
        };
        let answer = self.runtime.spawn(sending).await?;
        let failure = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("HTTP {}", answer.status())),
            Err(error) => Some(error::chain(error)),
        };
        if let Some(error) = failure
            && let Some(unlogged) = self.told.note("spans", std::time::Instant::now())
        {
            let remedy = "otlp-endpoint is a collector's address for OTLP over HTTP, mostly port 4318";
            tracing::warn!(event = "spans_lost", url, error, remedy, unlogged);
        }
        Ok(answer?)
    }
}
