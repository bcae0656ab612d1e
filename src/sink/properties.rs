//! The table of the element's properties.
//!
//! A row is a property: its specification, how to read it from the settings, and how to write it to them. A test
//! compares the table in `docs/element.md` with it.

use std::sync::{Arc, LazyLock};

use glib::{ParamFlags, ParamSpec, Value};
use gst::prelude::*;

use super::enums::{AuthMethods, DropPolicy, HeaderChange, OnError, Padding, Resume, SyncMethod};
use super::location;
use super::settings::Settings;
use wmhttp::auth::Secret;
use wmhttp::headers::{Directives, is_encoder};

/// Returns the row of a property by its name.
pub(super) fn property(name: &str) -> Option<&'static Property> {
    PROPERTIES.iter().find(|property| property.spec.name() == name)
}

/// One property. A write may be rejected with a sentence that contains cause and remedy.
pub(super) struct Property {
    pub(super) spec: ParamSpec,
    pub(super) get: fn(&Settings) -> Value,
    pub(super) set: fn(&mut Settings, &Value) -> Result<(), String>,
}

/// All properties that are stored in the settings, in the order of the table in `docs/element.md`.
pub(super) static PROPERTIES: LazyLock<Vec<Property>> = LazyLock::new(table);

/// The properties that each destination has too, with which it overrides the element's value. They need separate
/// specifications, because a specification belongs to one class.
pub(super) static DESTINATION_PROPERTIES: LazyLock<Vec<Property>> = LazyLock::new(|| {
    table().into_iter().filter(|property| NAMES_OF_DESTINATIONS.contains(&property.spec.name())).collect()
});

/// Creates the rows. The specifications take their defaults from [`Settings::default`].
fn table() -> Vec<Property> {
    let defaults = Settings::default();
    vec![
        row(
            string(
                "location",
                "Location",
                "URL of the publishing point, http://server:port/path; also https, mms and mmsh",
            )
            .mutable_ready()
            .build(),
            |s| s.location.as_deref().map(Secret::reveal).and_then(location::redacted).to_value(),
            |s, v| {
                s.location = text(v).map(Secret::new).map(Arc::new);
                Ok(())
            },
        ),
        row(
            string("locations", "Locations", "URLs of several publishing points, separated by commas or white space")
                .mutable_ready()
                .build(),
            |s| {
                let locations = s.locations.as_deref().map(Secret::reveal);
                let redacted: Vec<String> = location::split(locations).filter_map(location::redacted).collect();
                (!redacted.is_empty()).then(|| redacted.join(",")).to_value()
            },
            |s, v| {
                s.locations = text(v).map(Secret::new).map(Arc::new);
                Ok(())
            },
        ),
        row(
            string(
                "template-url",
                "Template URL",
                "URL or path of the publishing point to copy settings from when a new one is created",
            )
            .mutable_ready()
            .build(),
            |s| s.template_url.to_value(),
            |s, v| {
                let template = text(v);
                if let Some(template) = &template
                    && Directives::template_path(template).is_none()
                {
                    return Err("it is neither a URL nor an absolute path; write /path or http://server/path".to_owned());
                }
                s.template_url = template;
                Ok(())
            },
        ),
        row(
            boolean("auto-destroy", "Auto destroy", "Ask the server to remove the publishing point at the end of the push", false)
                .mutable_ready()
                .build(),
            |s| s.auto_destroy.to_value(),
            |s, v| store(&mut s.auto_destroy, v),
        ),
        row(
            string("user-id", "User ID", "User name at the server: user, DOMAIN\\user or user@REALM")
                .mutable_playing()
                .build(),
            |s| s.login.user.to_value(),
            |s, v| {
                s.login.user = text(v);
                Ok(())
            },
        ),
        row(
            string("user-pw", "User password", "Password at the server (write-only)")
                .flags(ParamFlags::WRITABLE)
                .mutable_playing()
                .build(),
            // This is used for a destination's settings; the property itself is write-only.
            |s| s.login.password.as_ref().map(Secret::reveal).to_value(),
            |s, v| {
                s.login.password = v.get::<Option<String>>().ok().flatten().map(Secret::new);
                Ok(())
            },
        ),
        row(
            glib::ParamSpecFlags::builder::<AuthMethods>("auth-methods")
                .nick("Authentication methods")
                .blurb("Allowed authentication methods")
                .flags(FLAGS)
                .default_value(defaults.auth_methods)
                .mutable_ready()
                .build(),
            |s| s.auth_methods.to_value(),
            |s, v| store(&mut s.auth_methods, v),
        ),
        row(
            string(
                "user-agent",
                "User agent",
                "User-Agent header; must begin with WMEncoder/ and a version from 9.0 to 12.0",
            )
            .default_value(Some(defaults.user_agent.as_str()))
            .mutable_ready()
            .build(),
            |s| s.user_agent.to_value(),
            |s, v| {
                let agent = text(v).unwrap_or_else(|| Settings::default().user_agent);
                if !is_encoder(&agent) || !agent.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                    return Err(
                        "it must begin with WMEncoder/ and 9.0, 10.0, 11.0 or 12.0, because servers refuse anything else".to_owned()
                    );
                }
                s.user_agent = agent;
                Ok(())
            },
        ),
        row(
            uint(
                "connect-timeout",
                "Connect timeout",
                "Timeout for name lookup and connection, in milliseconds",
                defaults.connect_timeout,
            )
            .minimum(1)
            .mutable_playing()
            .build(),
            |s| s.connect_timeout.to_value(),
            |s, v| store(&mut s.connect_timeout, v),
        ),
        row(
            uint("timeout", "Timeout", "Timeout for the response to a request, in milliseconds", defaults.timeout)
                .minimum(1)
                .mutable_playing()
                .build(),
            |s| s.timeout.to_value(),
            |s, v| store(&mut s.timeout, v),
        ),
        row(
            uint(
                "stall-timeout",
                "Stall timeout",
                "Maximum time without acknowledgement of sent data, in milliseconds (0 = unlimited)",
                defaults.stall_timeout,
            )
            .mutable_playing()
            .build(),
            |s| s.stall_timeout.to_value(),
            |s, v| store(&mut s.stall_timeout, v),
        ),
        row(
            uint(
                "eos-timeout",
                "EOS timeout",
                "Maximum time at EOS to deliver the rest of the stream and its end, in milliseconds",
                defaults.eos_timeout,
            )
            .mutable_playing()
            .build(),
            |s| s.eos_timeout.to_value(),
            |s, v| store(&mut s.eos_timeout, v),
        ),
        row(
            boolean(
                "auto-reconnect",
                "Automatic reconnect",
                "Reconnect automatically when the connection is lost",
                defaults.auto_reconnect,
            )
            .mutable_playing()
            .build(),
            |s| s.auto_reconnect.to_value(),
            |s, v| store(&mut s.auto_reconnect, v),
        ),
        row(
            glib::ParamSpecInt::builder("retries")
                .nick("Retries")
                .blurb("Maximum consecutive retries (-1 = unlimited, 0 = none)")
                .flags(FLAGS)
                .minimum(-1)
                .default_value(defaults.retries)
                .mutable_playing()
                .build(),
            |s| s.retries.to_value(),
            |s, v| store(&mut s.retries, v),
        ),
        row(
            uint(
                "retry-delay",
                "Retry delay",
                "Delay before the first retry, in milliseconds; each further delay is 1.5 times as long",
                defaults.retry_delay,
            )
            .mutable_playing()
            .build(),
            |s| s.retry_delay.to_value(),
            |s, v| store(&mut s.retry_delay, v),
        ),
        row(
            uint(
                "retry-delay-max",
                "Longest retry delay",
                "Maximum delay before a retry, in milliseconds",
                defaults.retry_delay_max,
            )
            .mutable_playing()
            .build(),
            |s| s.retry_delay_max.to_value(),
            |s, v| store(&mut s.retry_delay_max, v),
        ),
        row(
            glib::ParamSpecUInt64::builder("max-size-time")
                .nick("Max. size (time)")
                .blurb("Maximum lag of the server in stream time, in nanoseconds (0 = unlimited)")
                .flags(FLAGS)
                .default_value(defaults.max_size_time)
                .mutable_playing()
                .build(),
            |s| s.max_size_time.to_value(),
            |s, v| store(&mut s.max_size_time, v),
        ),
        row(
            uint(
                "max-size-bytes",
                "Max. size (bytes)",
                "Maximum lag of the server in bytes (0 = unlimited)",
                defaults.max_size_bytes,
            )
            .mutable_playing()
            .build(),
            |s| s.max_size_bytes.to_value(),
            |s, v| store(&mut s.max_size_bytes, v),
        ),
        row(
            uint(
                "max-size-buffers",
                "Max. size (packets)",
                "Maximum lag of the server in ASF data packets (0 = unlimited)",
                defaults.max_size_buffers,
            )
            .mutable_playing()
            .build(),
            |s| s.max_size_buffers.to_value(),
            |s, v| store(&mut s.max_size_buffers, v),
        ),
        row(
            glib::ParamSpecEnum::builder_with_default("drop-policy", DropPolicy::Auto)
                .nick("Drop policy")
                .blurb("What to do when the server lags beyond max-size-time, max-size-bytes or max-size-buffers")
                .flags(FLAGS)
                .mutable_playing()
                .build(),
            |s| s.drop_policy.to_value(),
            |s, v| store(&mut s.drop_policy, v),
        ),
        row(
            glib::ParamSpecEnum::builder_with_default("sync-method", SyncMethod::LatestKeyframe)
                .nick("Sync method")
                .blurb("Where a late-joining publishing point starts, or one resumes after dropped packets")
                .flags(FLAGS)
                .mutable_playing()
                .build(),
            |s| s.sync_method.to_value(),
            |s, v| store(&mut s.sync_method, v),
        ),
        row(
            boolean(
                "request-keyframe",
                "Request key frames",
                "Ask upstream for a key frame when a publishing point needs one, up to once per second",
                defaults.request_keyframe,
            )
            .mutable_playing()
            .build(),
            |s| s.request_keyframe.to_value(),
            |s, v| store(&mut s.request_keyframe, v),
        ),
        row(
            glib::ParamSpecEnum::builder_with_default("padding", Padding::Explicit)
                .nick("Padding")
                .blurb("How padding in ASF data packets is handled")
                .flags(FLAGS)
                .mutable_ready()
                .build(),
            |s| s.padding.to_value(),
            |s, v| store(&mut s.padding, v),
        ),
        row(
            boolean("live-header", "Live header", "Mark the stream as live in the ASF header", defaults.live_header)
                .mutable_ready()
                .build(),
            |s| s.live_header.to_value(),
            |s, v| store(&mut s.live_header, v),
        ),
        row(
            boolean(
                "strict-server",
                "Strict server",
                "Refuse servers whose Server header does not name a Windows Media server",
                defaults.strict_server,
            )
            .mutable_ready()
            .build(),
            |s| s.strict_server.to_value(),
            |s, v| store(&mut s.strict_server, v),
        ),
        row(
            boolean(
                "automatic-redirect",
                "Automatic redirect",
                "Follow up to 8 redirects",
                defaults.automatic_redirect,
            )
            .mutable_ready()
            .build(),
            |s| s.automatic_redirect.to_value(),
            |s, v| store(&mut s.automatic_redirect, v),
        ),
        row(
            string("proxy", "Proxy", "URL of the HTTP proxy (NULL = from the environment, empty = none)")
                .mutable_ready()
                .build(),
            |s| s.proxy.redacted().to_value(),
            |s, v| {
                // Not with `text`, because an empty string has a meaning here.
                s.proxy.set_url(v.get().map_err(|_| "wrong value type".to_owned())?);
                Ok(())
            },
        ),
        row(
            string("proxy-id", "Proxy user", "User name at the proxy").mutable_ready().build(),
            |s| s.proxy.login.user.to_value(),
            |s, v| {
                s.proxy.login.user = text(v);
                Ok(())
            },
        ),
        row(
            string("proxy-pw", "Proxy password", "Password at the proxy (write-only)")
                .flags(ParamFlags::WRITABLE)
                .mutable_ready()
                .build(),
            |_| None::<String>.to_value(),
            |s, v| {
                s.proxy.login.password = v.get::<Option<String>>().ok().flatten().map(Secret::new);
                Ok(())
            },
        ),
        row(
            string("tls-ca-file", "TLS CA file", "PEM file with certificates to trust in addition to the system's")
                .mutable_ready()
                .build(),
            |s| s.tls.options().ca_file.to_value(),
            |s, v| {
                s.set_tls(|tls| tls.ca_file = text(v));
                Ok(())
            },
        ),
        row(
            boolean("tls-validation", "TLS validation", "Refuse servers whose certificate is not trusted", true)
                .mutable_ready()
                .build(),
            |s| s.tls.options().validate.to_value(),
            |s, v| {
                let mut validate = true;
                store(&mut validate, v)?;
                s.set_tls(|tls| tls.validate = validate);
                Ok(())
            },
        ),
        row(
            string("tls-certificate-file", "TLS certificate file", "PEM file with the client certificate")
                .mutable_ready()
                .build(),
            |s| s.tls.options().certificate_file.to_value(),
            |s, v| {
                s.set_tls(|tls| tls.certificate_file = text(v));
                Ok(())
            },
        ),
        row(
            string(
                "tls-private-key-file",
                "TLS private key file",
                "PEM file with the key of the client certificate (NULL = in tls-certificate-file)",
            )
            .mutable_ready()
            .build(),
            |s| s.tls.options().private_key_file.to_value(),
            |s, v| {
                s.set_tls(|tls| tls.private_key_file = text(v));
                Ok(())
            },
        ),
        row(
            string("bind-address", "Bind address", "Local IP address to bind to (NULL = any)")
                .mutable_ready()
                .build(),
            |s| s.bind_address.map(|address| address.to_string()).to_value(),
            |s, v| {
                let address = text(v).map(|address| address.parse()).transpose();
                s.bind_address = address.map_err(|_| "it is not an IP address; write an address such as 192.0.2.1 or 2001:db8::1".to_owned())?;
                Ok(())
            },
        ),
        row(
            glib::ParamSpecInt::builder("qos-dscp")
                .nick("QoS DSCP")
                .blurb("Differentiated Services code point for new connections (-1 = system default)")
                .flags(FLAGS)
                .minimum(-1)
                .maximum(63)
                .default_value(defaults.qos_dscp)
                .mutable_playing()
                .build(),
            |s| s.qos_dscp.to_value(),
            |s, v| store(&mut s.qos_dscp, v),
        ),
        row(
            glib::ParamSpecUInt64::builder("content-length")
                .nick("Content length")
                .blurb(
                    "Content-Length of a PushStart request, in bytes (0 = automatic: 2147483647, or 60 s of stream through a proxy)",
                )
                .flags(FLAGS)
                .default_value(defaults.content_length)
                .mutable_ready()
                .build(),
            |s| s.content_length.to_value(),
            |s, v| store(&mut s.content_length, v),
        ),
        row(
            glib::ParamSpecEnum::builder_with_default("header-change", HeaderChange::Auto)
                .nick("Header change")
                .blurb("How a changed ASF header is sent to the server")
                .flags(FLAGS)
                .mutable_playing()
                .build(),
            |s| s.header_change.to_value(),
            |s, v| store(&mut s.header_change, v),
        ),
        row(
            glib::ParamSpecEnum::builder_with_default("resume", Resume::Auto)
                .nick("Resume")
                .blurb("Whether to resume the session after a lost connection, with its push-id and without a header")
                .flags(FLAGS)
                .mutable_playing()
                .build(),
            |s| s.resume.to_value(),
            |s, v| store(&mut s.resume, v),
        ),
        row(
            glib::ParamSpecEnum::builder_with_default("on-error", OnError::FailAll)
                .nick("On error")
                .blurb("When failed publishing points cause an ERROR of the element")
                .flags(FLAGS)
                .mutable_playing()
                .build(),
            |s| s.on_error.to_value(),
            |s, v| store(&mut s.on_error, v),
        ),
        row(
            uint(
                "stats-update-interval",
                "Statistics interval",
                "Interval of statistics messages, in milliseconds (0 = none)",
                defaults.stats_update_interval,
            )
            .mutable_playing()
            .build(),
            |s| s.stats_update_interval.to_value(),
            |s, v| store(&mut s.stats_update_interval, v),
        ),
    ]
}

/// The properties that may differ between destinations.
const NAMES_OF_DESTINATIONS: &[&str] = &[
    "template-url",
    "auto-destroy",
    "user-id",
    "user-pw",
    "auth-methods",
    "auto-reconnect",
    "retries",
    "retry-delay",
    "retry-delay-max",
    "max-size-time",
    "max-size-bytes",
    "max-size-buffers",
    "drop-policy",
    "sync-method",
    "content-length",
    "header-change",
    "resume",
];

/// The flags of all properties except the passwords, which are write-only.
const FLAGS: ParamFlags = ParamFlags::READWRITE;

fn row(spec: ParamSpec, get: fn(&Settings) -> Value, set: fn(&mut Settings, &Value) -> Result<(), String>) -> Property {
    Property { spec, get, set }
}

fn string<'a>(name: &'a str, nick: &'a str, blurb: &'a str) -> glib::ParamSpecStringBuilder<'a> {
    glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).flags(FLAGS)
}

fn boolean<'a>(name: &'a str, nick: &'a str, blurb: &'a str, default: bool) -> glib::ParamSpecBooleanBuilder<'a> {
    glib::ParamSpecBoolean::builder(name).nick(nick).blurb(blurb).flags(FLAGS).default_value(default)
}

fn uint<'a>(name: &'a str, nick: &'a str, blurb: &'a str, default: u32) -> glib::ParamSpecUIntBuilder<'a> {
    glib::ParamSpecUInt::builder(name).nick(nick).blurb(blurb).flags(FLAGS).default_value(default)
}

/// The text of a value; an empty string is the same as NULL.
fn text(value: &Value) -> Option<String> {
    value.get::<Option<String>>().ok().flatten().filter(|text| !text.is_empty())
}

/// Stores a value whose type GObject has already checked.
fn store<T: for<'v> glib::value::FromValue<'v> + 'static>(field: &mut T, value: &Value) -> Result<(), String> {
    *field = value.get_owned().map_err(|_| "wrong value type".to_owned())?;
    Ok(())
}
