//! Proxies: the configured one, and those that a server requires.

use super::*;
use crate::auth::{Login, Secret};
use crate::proxy::ProxyConfig;

fn proxy(url: &str) -> Proxy {
    let login = Login { user: Some("bob".to_owned()), password: Some(Secret::new("secret")) };
    Proxy { url: Url::parse(url).unwrap(), login }
}

fn unknown(url: &str) -> Proxy {
    Proxy { login: Login::default(), ..proxy(url) }
}

fn by(choice: ProxyConfig) -> Config {
    Config { proxy: choice, ..config() }
}

/// Both requests go through the configured proxy and contain its credentials.
#[test]
fn the_configured_proxy_is_used() {
    let chosen = proxy("http://proxy:3128/");
    let mut peer = Played::new(by(ProxyConfig::Always(chosen.clone())));
    peer.session.connect(peer.now);
    peer.run();
    peer.respond(&wms(204, "a"));
    peer.send(&header(), 1);
    assert_eq!(peer.proxies, [Some(chosen.clone()), Some(chosen)]);
}

/// C-7, UsingProxy: a configured proxy also leads to short bodies. The first has 256 KiB if the bit rate is unknown,
/// and the next depends on the rate of the previous one; `content_length` takes precedence.
#[test]
fn c7_bodies_through_a_configured_proxy() {
    let mut builder = HeaderBuilder::default().packet_size(PACKET);
    builder.max_bitrate = 0;
    let header = Arc::new(asf::Header::parse(builder.build()).unwrap());
    let chosen = ProxyConfig::Always(proxy("http://proxy:3128/"));
    let mut peer = Played::open(by(chosen.clone()), &wms(204, "a"), &header);
    assert_eq!(peer.content_length, 256 * 1024);
    let packets = peer.content_length / FRAMED as u64;
    peer.now += Duration::from_secs(20);
    peer.send(&header, packets);
    peer.respond(&wms(204, "a"));
    peer.send(&header, 1);
    let expected = 3 * 256 * 1024;
    assert!(peer.content_length.abs_diff(expected) < 2000, "C-7: {} for 60 s", peer.content_length);

    let peer = Played::open(Config { content_length: Some(50_000), ..by(chosen) }, &wms(204, "a"), &header);
    assert_eq!(peer.content_length, 50_000);
}

/// C-4: after a 305, PushSetup is sent again through the proxy on a new connection, with the same URL. The proxy
/// receives no credentials, and the next session begins like the first.
#[test]
fn c4_305_leads_through_a_proxy() {
    for choice in [ProxyConfig::Direct, ProxyConfig::Always(proxy("http://own:3128/"))] {
        let first = choice.proxy_for(&Url::parse("http://media:8080/").unwrap()).unwrap();
        let mut peer = redirected(by(choice), &[redirect(305, "http://eve:x@named:81/ignored")]);
        assert_eq!(peer.did, [setup("0"), Did::Close, setup("0")]);
        peer.respond(&wms(204, "abc"));
        peer.send(&header(), 1);
        let named = Some(unknown("http://named:81/"));
        assert_eq!(peer.proxies, [first.clone(), named.clone(), named]);
        assert!(peer.asked.iter().all(|(url, _)| url == "http://media:8080/concert"));
        assert!(peer.session.uses_proxy() && peer.content_length < DEFAULT_CONTENT_LENGTH, "C-7");
        peer.session.disconnect(peer.now);
        peer.now += Duration::from_secs(1000);
        peer.session.connect(peer.now);
        peer.run();
        assert_eq!(*peer.proxies.last().unwrap(), first);
    }
}

/// C-4, C-5: a proxy required by a server receives neither the password for the server nor that for the configured
/// proxy; credentials are requested from the application.
#[test]
fn c4_c5_a_required_proxy_gets_no_credentials() {
    let login = Login { user: Some("carol".to_owned()), password: Some(Secret::new("own")) };
    let config = Config { login, ..by(ProxyConfig::Always(proxy("http://own:3128/"))) };
    let mut refusal = response(407, &[("proxy-authenticate", "Digest realm=\"r\", nonce=\"n\"")]);
    let mut peer = redirected(config, &[refusal.clone(), redirect(305, "http://named:81")]);
    assert!(peer.authorizations[1][1].as_ref().is_some_and(|value| value.contains("\"bob\"")), "the configured proxy");
    assert_eq!(peer.authorizations[2], [None, None]);
    refusal.headers.remove("server");
    peer.respond(&refusal);
    let Some(Event::CredentialsNeeded(question)) = peer.events().pop() else { panic!("{:?}", peer.events()) };
    assert_eq!((question.target, question.user), (Target::Proxy, None));
    assert_eq!(peer.requests().len(), 3);
}

/// C-4: redirects by 305 count towards the limit, and loops are detected.
#[test]
fn c4_305_hops_are_bounded() {
    let again = redirect(305, "http://named:81");
    let failure = redirected(config(), &[again.clone(), again.clone()]).failure().unwrap();
    assert_eq!((failure.hresult, failure.permanent), (Hresult::TOO_MANY_HOPS, true), "{failure}");
    assert!(failure.text.contains("redirect loop") && failure.text.contains("the proxy http://named:81/"), "{failure}");

    let mixed: Vec<ResponseHead> = (0..9)
        .map(|hop| match hop % 2 {
            0 => redirect(305, &format!("http://named:{hop}1")),
            _ => redirect(302, &format!("/{hop}")),
        })
        .collect();
    assert_eq!(redirected(config(), &mixed[..8]).failure(), None);
    assert_eq!(redirected(config(), &mixed).failure().unwrap().hresult, Hresult::TOO_MANY_HOPS);
}

/// C-4: after a redirect through a proxy, the configured proxy for the target is used, not the one required before.
#[test]
fn c4_a_redirect_drops_the_required_proxy() {
    let rule: crate::proxy::Rule =
        Arc::new(|url| Ok(url.host_str().is_some_and(|host| host == "far").then(|| proxy("http://own:3128/"))));
    let peer =
        redirected(by(ProxyConfig::Rule(rule)), &[redirect(305, "http://named:81"), redirect(302, "http://far/live")]);
    assert_eq!(peer.proxies, [None, Some(unknown("http://named:81/")), Some(proxy("http://own:3128/"))]);
}

/// C-4: a redirect that is not followed gives a reason: the scheme, or the setting.
#[test]
fn c4_305_refused() {
    for location in ["socks5://named:1080", "https://named:443"] {
        let failure = redirected(Config { https: true, ..config() }, &[redirect(305, location)]).failure().unwrap();
        assert_eq!((failure.hresult, failure.status()), (Hresult::INVALID_REDIRECT, Some(305)), "{failure}");
    }
    let off = Config { automatic_redirect: false, ..config() };
    let failure = redirected(off, &[redirect(305, "http://eve:x@named:81")]).failure().unwrap();
    assert_eq!((failure.hresult, failure.permanent), (Hresult::REDIRECT_TO_PROXY, true));
    assert!(failure.text.contains("the proxy http://named:81/"), "{failure}");
}

/// A proxy with an unsupported scheme is an error before anything is sent, because bypassing it would violate the
/// configuration.
#[test]
fn a_proxy_with_another_scheme_is_rejected() {
    let mut peer = Played::new(by(ProxyConfig::Always(proxy("socks5://proxy:1080"))));
    peer.session.connect(peer.now);
    peer.run();
    let failure = peer.failure().unwrap();
    assert_eq!((failure.hresult, failure.permanent), (Hresult::PROXY_NOT_FOUND, true));
    assert!(failure.text.contains("socks5:") && peer.requests().is_empty(), "{failure}");
}

/// A proxy that closes the connection after each response without announcing it is detected once, and the request is
/// repeated completely; afterwards each request has its own connection.
#[test]
fn a_proxy_that_closes_connections_is_detected() {
    for cause in [Cause::Stale, Cause::Closed, Cause::Reset] {
        let config = Config { content_length: Some(1), ..by(ProxyConfig::Always(proxy("http://proxy:3128/"))) };
        let header = header();
        let mut peer = Played::open(config, &wms(204, "a"), &header);
        peer.lose(cause);
        assert_eq!(
            peer.events(),
            [Event::Restarted { reason: RestartReason::Stale, rewind: FRAMED as u64 }],
            "{cause:?}"
        );
        for _ in 0..2 {
            peer.did.clear();
            peer.send(&header, 10);
            let Some(Did::Start { connection, .. }) = peer.requests().first().cloned() else { panic!("{cause:?}") };
            assert_eq!(connection, Connection::New);
            peer.respond(&wms(204, "a"));
        }
    }
}

/// Without a proxy, later, or after an acknowledged `$E`, a lost connection is reported as such.
#[test]
fn other_losses_are_reported() {
    let header = header();
    let mut direct = Played::open(config(), &wms(204, "a"), &header);
    direct.lose(Cause::Closed);
    assert!(direct.failure().is_some());

    let config = by(ProxyConfig::Always(proxy("http://proxy:3128/")));
    let mut later = Played::open(config.clone(), &wms(204, "a"), &header);
    later.now += Duration::from_secs(2);
    later.lose(Cause::Closed);
    assert!(later.failure().is_some());

    let mut ended = Played::open(config, &wms(204, "a"), &header);
    ended.end();
    ended.session.handle_disconnect(Cause::Closed, "", true, ended.now);
    ended.run();
    assert_eq!(ended.events(), [Event::Ended { clean: true }]);
}

/// An invalid proxy setting fails the push; the proxy is not bypassed.
#[test]
fn an_invalid_proxy_is_not_bypassed() {
    let rule: crate::proxy::Rule = Arc::new(|_| Err("http_proxy is not a URL".to_owned()));
    let peer = redirected(by(ProxyConfig::Rule(rule)), &[]);
    let failure = peer.failure().unwrap();
    assert!(failure.permanent && failure.text.contains("http_proxy"), "{failure}");
    assert!(peer.requests().is_empty());
}
