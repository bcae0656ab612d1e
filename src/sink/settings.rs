//! The element's settings, and their conversion for the client crate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use url::Url;

use super::enums::{AuthMethods, DropPolicy, HeaderChange, OnError, Padding, Resume, SyncMethod};
use super::location;
use super::proxy::ProxySettings;
use asfpush_client::packet_buffer::{Limits, ReaderOptions};
use asfpush_client::publish::backoff::Policy;
use asfpush_client::publish::{self};
use asfpush_client::transport;
use asfpush_client::transport::kerberos;
use asfpush_client::transport::tls::{self, Tls};
use wmhttp::auth::{Login, Secret};
use wmhttp::client::Config;
use wmhttp::headers::Directives;
use wmhttp::proxy::ProxyConfig;
use wmhttp::via::Via;

/// The values of the properties. Times are in milliseconds, except `max_size_time` in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// As set by the user, possibly with a password, like `locations`. Shared, because each destination's settings are
    /// a copy of these, and the locations of thousands of destinations are long.
    pub(super) location: Option<Arc<Secret>>,
    pub(super) locations: Option<Arc<Secret>>,
    pub(super) template_url: Option<String>,
    pub(super) auto_destroy: bool,
    pub(super) login: Login,
    pub(super) auth_methods: AuthMethods,
    pub(super) user_agent: String,
    pub(super) connect_timeout: u32,
    pub(super) timeout: u32,
    pub(super) stall_timeout: u32,
    pub(super) eos_timeout: u32,
    pub(super) auto_reconnect: bool,
    pub(super) retries: i32,
    pub(super) retry_delay: u32,
    pub(super) retry_delay_max: u32,
    pub(super) max_size_time: u64,
    pub(super) max_size_bytes: u32,
    pub(super) max_size_buffers: u32,
    pub(super) drop_policy: DropPolicy,
    pub(super) sync_method: SyncMethod,
    pub(super) request_keyframe: bool,
    pub(super) padding: Padding,
    pub(super) live_header: bool,
    pub(super) strict_server: bool,
    pub(super) automatic_redirect: bool,
    pub(super) proxy: ProxySettings,
    pub(super) tls: Tls,
    pub(super) bind_address: Option<IpAddr>,
    pub(super) qos_dscp: i32,
    pub(super) content_length: u64,
    pub(super) header_change: HeaderChange,
    pub(super) resume: Resume,
    pub(super) on_error: OnError,
    pub(super) stats_update_interval: u32,
    /// Why the last value of a property was rejected, by the property's name. A push cannot start until it is
    /// corrected.
    pub(super) rejections: BTreeMap<&'static str, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            location: None,
            locations: None,
            template_url: None,
            auto_destroy: false,
            login: Login::default(),
            auth_methods: AuthMethods::DIGEST | AuthMethods::NTLM | AuthMethods::NEGOTIATE,
            user_agent: concat!("WMEncoder/12.0.0.0 asfpushsink/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: 10_000,
            timeout: 15_000,
            stall_timeout: 10_000,
            eos_timeout: 5_000,
            auto_reconnect: true,
            retries: -1,
            retry_delay: 1_000,
            retry_delay_max: 30_000,
            max_size_time: 5_000_000_000,
            max_size_bytes: 8 * 1024 * 1024,
            max_size_buffers: 0,
            drop_policy: DropPolicy::Auto,
            sync_method: SyncMethod::LatestKeyframe,
            request_keyframe: true,
            padding: Padding::Explicit,
            live_header: true,
            strict_server: true,
            automatic_redirect: true,
            proxy: ProxySettings::default(),
            tls: Tls::default(),
            bind_address: None,
            qos_dscp: -1,
            content_length: 0,
            header_change: HeaderChange::Auto,
            resume: Resume::Auto,
            on_error: OnError::FailAll,
            stats_update_interval: 0,
            rejections: BTreeMap::new(),
        }
    }
}

/// Converts milliseconds.
fn ms(value: u32) -> Duration {
    Duration::from_millis(value.into())
}

impl Settings {
    /// Returns the settings for a new push. Certificates are read again, once for all its connections.
    pub(super) fn for_new_push(&mut self) -> Self {
        self.tls = self.tls.reloaded();
        self.clone()
    }

    /// Records whether the value that a property was set to was accepted.
    pub(super) fn record_rejection<T>(&mut self, name: &'static str, outcome: &Result<T, String>) {
        match outcome {
            Ok(_) => drop(self.rejections.remove(name)),
            Err(why) => drop(self.rejections.insert(name, why.clone())),
        }
    }

    /// Returns the first property whose last value was rejected, as `NAME: REASON`.
    pub(super) fn first_rejection(&self) -> Option<String> {
        self.rejections.iter().next().map(|(name, why)| format!("{name}: {why}"))
    }

    /// Changes a TLS option.
    pub(super) fn set_tls(&mut self, change: impl FnOnce(&mut tls::Options)) {
        let mut options = self.tls.options().clone();
        change(&mut options);
        self.tls = Tls::new(options);
    }

    /// Returns the individual locations in `location` and `locations`.
    pub(super) fn locations(&self) -> Vec<&str> {
        let one = self.location.as_deref().map(Secret::reveal);
        one.into_iter().chain(location::split(self.locations.as_deref().map(Secret::reveal))).collect()
    }

    /// The limits of the packet buffer: `max-size-time`, `max-size-bytes` and `max-size-buffers`.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            time: Duration::from_nanos(self.max_size_time),
            bytes: usize::try_from(self.max_size_bytes).unwrap_or(usize::MAX),
            packets: usize::try_from(self.max_size_buffers).unwrap_or(usize::MAX),
        }
    }

    /// The settings of the parser.
    pub(super) fn parser(&self) -> asf::Settings {
        asf::Settings { padding: self.padding.into(), live_header: self.live_header, remove_encoder_offset: true }
    }

    /// How long the end of the stream may take.
    pub(super) fn eos_timeout(&self) -> Duration {
        ms(self.eos_timeout)
    }

    /// Returns the interval of statistics messages, if they are enabled.
    pub(super) fn stats_interval(&self) -> Option<Duration> {
        (self.stats_update_interval > 0).then(|| ms(self.stats_update_interval))
    }

    /// Returns the settings of the destination at `url`. `proxy` is the result of [`ProxySettings::config`], which
    /// reads the environment and is therefore called once for all destinations.
    pub(super) fn destination(&self, url: Url, proxy: &ProxyConfig) -> publish::Settings {
        let template = self.template_url.as_deref().and_then(Directives::template_path);
        publish::Settings {
            session: Config {
                url,
                user_agent: self.user_agent.clone(),
                auth_methods: self.auth_methods.into(),
                login: self.login.clone(),
                tickets: kerberos::AVAILABLE,
                random: rand::random,
                wall_clock: SystemTime::now,
                directives: Directives { template, auto_destroy: self.auto_destroy },
                via: Via::default(),
                content_length: (self.content_length > 0).then_some(self.content_length),
                strict_server: self.strict_server,
                automatic_redirect: self.automatic_redirect,
                https: tls::AVAILABLE,
                proxy: proxy.clone(),
                header_change: self.header_change.into(),
                resume: self.resume.into(),
                response_timeout: ms(self.timeout),
                end_timeout: ms(self.eos_timeout),
            },
            transport: transport::Settings {
                connect_timeout: ms(self.connect_timeout),
                stall_timeout: ms(self.stall_timeout),
                local_address: self.bind_address,
                // -1 leaves it to the system.
                dscp: u8::try_from(self.qos_dscp).ok(),
                tls: self.tls.clone(),
            },
            retry: Policy {
                reconnect: self.auto_reconnect,
                // -1 means unlimited.
                retries: u32::try_from(self.retries).ok(),
                delay: ms(self.retry_delay),
                delay_max: ms(self.retry_delay_max),
                after_refusal: None,
            },
            options: ReaderOptions {
                policy: self.drop_policy.policy(),
                limits: Some(self.limits()),
                resync: self.sync_method.into(),
                ..ReaderOptions::default()
            },
        }
    }
}
