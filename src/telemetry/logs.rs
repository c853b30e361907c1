//! Log lines: JSON with the fields of the original design, or plain text on a terminal.

use std::fmt;
use std::io::IsTerminal as _;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::domain::time::Clock;

/// Starts logging to standard error.
pub fn init(format: &str, level: &str) {
    let filter = std::env::var("EML_LOG").ok().unwrap_or_else(|| level.to_owned());
    let (filter, is_wrong) = match EnvFilter::try_new(&filter) {
        Ok(filter) => (filter, false),
        Err(_) => (EnvFilter::new("info"), true),
    };
    let is_json = match format {
        "json" => true,
        "pretty" => false,
        _ => !std::io::stderr().is_terminal(),
    };
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process, as in tests, keeps the first.
    let _ = if is_json {
        builder.fmt_fields(JsonFields).event_format(JsonLines).try_init()
    } else {
        builder.with_ansi(colours).with_target(false).try_init()
    };
    if is_wrong {
        tracing::warn!("EML_LOG is not a filter such as `info,eml::store=debug`; `info` is used");
    }
}

/// One JSON object per line: `timestamp service level message user ip`, then everything else.
pub struct JsonLines;

/// Keeps the fields of a span as JSON, so that its events can take them over.
pub struct JsonFields;

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut collected = Collected::default();
        fields.record(&mut collected);
        writer.write_str(&Value::Object(collected.0).to_string())
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        let mut collected = Collected(serde_json::from_str(&current.fields).unwrap_or_default());
        fields.record(&mut collected);
        current.fields = Value::Object(collected.0).to_string();
        Ok(())
    }
}

#[derive(Default)]
struct Collected(Map<String, Value>);

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Collected::default();
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            if let Some(known) = span.extensions().get::<FormattedFields<N>>() {
                fields
                    .0
                    .extend(serde_json::from_str::<Map<String, Value>>(&known.fields).unwrap_or_default());
            }
        }
        event.record(&mut fields);
        let target = event.metadata().target();
        let mut take = |name: &str| fields.0.remove(name);
        let line = json!({
            "timestamp": Clock.now(),
            "service": take("service").unwrap_or_else(|| service_of(target).into()),
            "level": event.metadata().level().as_str().to_lowercase(),
            "message": take("message").unwrap_or_default(),
            "user": take("user"),
            "ip": take("ip"),
            "logger": target,
        });
        let Value::Object(mut line) = line else { return Ok(()) };
        line.append(&mut fields.0);
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The service of the original design that a module belongs to.
fn service_of(target: &str) -> &'static str {
    if target.starts_with("eml::edge::auth") || target.starts_with("eml::edge::users") {
        return "user";
    }
    if target.starts_with("eml::edge") {
        return "api_gateway";
    }
    "communication"
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_fields_of_the_original_design_and_those_of_its_spans() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonFields)
            .event_format(JsonLines)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(
                "request",
                request.id = "req_1",
                ip = "127.0.0.1",
                user = tracing::field::Empty
            );
            let _entered = span.enter();
            span.record("user", "usr_1");
            tracing::info!(call.id = "call_1", count = 3, "call \"queued\"");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let line: Value = serde_json::from_str(text.trim()).unwrap();
        for (field, want) in [
            ("level", json!("info")),
            ("message", json!("call \"queued\"")),
            ("user", json!("usr_1")),
            ("ip", json!("127.0.0.1")),
            ("request.id", json!("req_1")),
            ("call.id", json!("call_1")),
            ("count", json!(3)),
            ("service", json!("communication")),
        ] {
            assert_eq!(line[field], want, "{field} in {text}");
        }
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
