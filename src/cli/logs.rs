//! The log: where it goes, in which form, and which of it. SIGHUP reads the settings again and takes over `log`, so that
//! an operator can look closer without a restart.

use tokio::signal::unix::{SignalKind, signal};
use tracing::{Event, Subscriber};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use crate::config::Config;
use crate::error::{self, Error, Kind, Result};

/// Files that are kept, one a day.
const KEPT: usize = 7;

/// The running log.
pub(super) struct Logs(reload::Handle<EnvFilter, Registry>);

/// Starts it.
///
/// # Errors
/// [`Kind::Config`] where the filter is none, or the file cannot be written.
pub(super) fn start(config: &Config) -> Result<Logs> {
    use std::io::IsTerminal as _;
    let (filter, handle) = reload::Layer::new(filter(&config.log)?);
    let terminal = config.log_file.is_none() && std::io::stderr().is_terminal();
    let writer = match &config.log_file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let unfit = |what: &str| Error::new(Kind::Config, format!("log-file {}: {what}", path.display()));
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| unfit("it is no file's name"))?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(".".as_ref());
            std::fs::create_dir_all(folder).map_err(|e| unfit("its folder cannot be made").because(e))?;
            let file = RollingFileAppender::builder()
                .rotation(Rotation::DAILY)
                .filename_prefix(name)
                .max_log_files(KEPT)
                .build(folder)
                .map_err(|e| unfit("it cannot be written").because(e))?;
            BoxMakeWriter::new(file)
        }
    };
    let lines = fmt::layer().with_target(false).with_writer(writer);
    let lines = if config.log_json.unwrap_or(!terminal) {
        let node = format!(r#","node":"{}""#, config.node);
        lines.json().flatten_event(true).map_event_format(|json| Signed { json, node }).boxed()
    } else {
        lines.with_ansi(terminal).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(Logs(handle))
}

/// Whether the filter is one.
///
/// # Errors
/// [`Kind::Config`] where it is none.
pub(super) fn check(config: &Config) -> Result<()> {
    filter(&config.log).map(drop)
}

/// The program ends by this error, before it has a log: its only line.
pub(super) fn end(error: Error) -> Error {
    let lines = fmt::layer().with_target(false).with_writer(std::io::stderr).json().flatten_event(true);
    let lines = lines.map_event_format(|json| Signed { json, node: String::new() });
    // another one stands in its place where a test runs in this process
    let _ = tracing_subscriber::registry().with(lines).try_init();
    tell(error)
}

/// The program ends by this error: the last line of the log.
pub(super) fn tell(error: Error) -> Error {
    tracing::error!(event = "ended", error = error::chain(&error), remedy = error.remedy());
    error.told()
}

/// As the key stands in an object; in a text its quotes are escaped.
const VERSION: &str = r#","version":"#;

/// Lines of JSON that say of which node and of which version they are: many servers write into one place.
struct Signed<F> {
    json: F,
    /// as it stands in the object
    node: String,
}

impl<S, N, F> FormatEvent<S, N> for Signed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.json.format_event(context, Writer::new(&mut line), event)?;
        let object = line.trim_end().strip_suffix('}').unwrap_or(&line);
        // `listening` says it of itself, for people too
        if object.contains(VERSION) {
            return writeln!(writer, "{object}{}}}", self.node);
        }
        writeln!(writer, r#"{object}{}{VERSION}"{}"}}"#, self.node, env!("CARGO_PKG_VERSION"))
    }
}

impl Logs {
    /// Takes over what `read` says of the log at each SIGHUP; settings that cannot be used change nothing.
    ///
    /// # Errors
    /// Where signals cannot be heard.
    pub(super) async fn follow(&self, read: impl Fn() -> Result<Config>) -> Result<()> {
        let explain = |e| Error::new(Kind::Io, "cannot listen for signals").because(e);
        let mut hangup = signal(SignalKind::hangup()).map_err(explain)?;
        while hangup.recv().await.is_some() {
            let applied = read().and_then(|config| {
                let filter = filter(&config.log)?;
                // before and after: one of the two may show no line of this level
                let is_shown = tracing::enabled!(tracing::Level::INFO);
                if is_shown {
                    tracing::info!(event = "log_changed", log = config.log);
                }
                let applied = self.0.reload(filter);
                applied.map_err(|e| Error::new(Kind::Config, "the log is gone").because(e))?;
                if !is_shown {
                    tracing::info!(event = "log_changed", log = config.log);
                }
                Ok(())
            });
            match applied {
                Ok(()) => {}
                Err(error) => tracing::error!(event = "log_unchanged", error = error::chain(&error)),
            }
        }
        Ok(())
    }
}

/// Lines of these libraries have no event, and say neither what was asked of them nor why it failed: the caller says
/// both. At `debug` the driver shows parameters of statements, which are rows.
const SILENT: [&str; 2] = ["tokio_postgres=off", "deadpool=off"];

fn filter(text: &str) -> Result<EnvFilter> {
    let all = [&[text], &SILENT[..]].concat().join(",");
    EnvFilter::try_new(all).map_err(|e| Error::new(Kind::Config, format!("log = {text} is no filter")).because(e))
}
