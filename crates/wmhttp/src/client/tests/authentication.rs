//! 401 and 407 responses in virtual time.

use super::*;
use crate::auth::{CredentialRequest, Credentials, Login, Methods, Scheme};
use crate::client::authentication::SUPPLY_TIMEOUT;
use crate::proxy::ProxyConfig;

const DIGEST: &str = "Digest realm=\"live\", nonce=\"one\", qop=\"auth\", algorithm=MD5";
const BASIC: &str = "Basic realm=\"live\"";

fn bob() -> Credentials {
    Credentials::new("bob", "hush")
}

fn login(user: &str, password: &str) -> Login {
    let Credentials { user, password } = Credentials::new(user, password);
    Login { user: Some(user), password: Some(password) }
}

/// The configuration with bob's credentials, and Basic allowed.
fn bobs() -> Config {
    Config { login: login("bob", "hush"), auth_methods: Methods { basic: true, ..Methods::default() }, ..config() }
}

fn refusal(target: Target, challenges: &[&str]) -> ResponseHead {
    let (status, header) = match target {
        Target::Server => (401, "www-authenticate"),
        Target::Proxy => (407, "proxy-authenticate"),
    };
    let mut headers = vec![("server", "Cougar/9.6"), ("set-cookie", "push-id=refused")];
    headers.extend(challenges.iter().map(|challenge| (header, *challenge)));
    response(status, &headers)
}

fn unauthorized(challenges: &[&str]) -> ResponseHead {
    refusal(Target::Server, challenges)
}

fn begun(config: Config) -> Played {
    let mut peer = Played::new(config);
    peer.session.connect(peer.now);
    peer.run();
    peer
}

impl Played {
    /// The Authorization of the last request.
    fn authorization(&self) -> Option<&str> {
        self.authorizations.last().unwrap()[0].as_deref()
    }

    fn question(&self) -> CredentialRequest {
        let mut questions = self
            .events()
            .into_iter()
            .filter_map(|event| if let Event::CredentialsNeeded(question) = event { Some(question) } else { None });
        questions.next_back().expect("a question")
    }

    fn supply(&mut self, answer: Option<Credentials>) {
        self.session.supply(answer, self.now);
        self.run();
    }
}

/// Returns a parameter of a Digest response.
fn parameter<'a>(answer: &'a str, name: &str) -> &'a str {
    let at = answer.find(&format!("{name}=")).unwrap_or_else(|| panic!("{name} in {answer}"));
    answer[at + name.len() + 1..].split(',').next().unwrap().trim_matches('"')
}

/// C-5, H-6: the first request has no Authorization. After a 401 the same PushSetup is sent again with the cookie of
/// the 401, on the same connection, or on a new one if it was closed.
#[test]
fn c5_h6_setup_is_sent_again() {
    for (kept, connection) in [(true, Connection::Same), (false, Connection::New)] {
        let mut peer = begun(bobs());
        assert_eq!(peer.authorizations, [[None, None]]);
        peer.respond(&ResponseHead { keep_alive: kept, ..unauthorized(&[DIGEST]) });
        let again = Did::Setup { push_id: "refused".into(), connection, body: String::new() };
        assert_eq!(peer.did, [setup("0"), Did::Event(Event::Authenticating), again]);
        assert_eq!(parameter(peer.authorization().unwrap(), "username"), "bob");
        peer.respond(&wms(204, "abc"));
        assert_eq!(peer.events().last(), Some(&Event::Opened));
        assert_eq!(peer.session.auth_scheme(), Some("Digest"));
    }
}

/// C-13: once the realm is known, PushStart is authenticated in advance, with an increasing nonce count.
#[test]
fn c13_digest_on_push_start() {
    let header = header();
    let mut peer = begun(Config { content_length: Some(1), ..bobs() });
    peer.respond(&unauthorized(&[DIGEST]));
    peer.respond(&wms(204, "a"));
    peer.send(&header, 100);
    peer.respond(&wms(204, "a"));
    peer.send(&header, 1);
    let counts: Vec<&str> =
        peer.authorizations[1..].iter().map(|both| parameter(both[0].as_deref().unwrap(), "nc")).collect();
    assert_eq!(counts, ["00000001", "00000002", "00000003"]);
}

/// C-13: a rejected PushStart is sent again with `$H` and all its data: on the same connection if its body was
/// complete, otherwise on a new one.
#[test]
fn c13_push_start_is_sent_again() {
    for full in [false, true] {
        let header = header();
        let mut peer = Played::ready(Config { content_length: Some(1), ..bobs() }, &wms(204, "a"));
        let sent = if full { peer.send(&header, 100) } else { peer.send(&header, 2) };
        peer.did.clear();
        peer.respond(&unauthorized(&[DIGEST]));
        let rewind = sent * FRAMED as u64;
        let restarted = Event::Restarted { reason: RestartReason::Unauthenticated, rewind };
        assert_eq!(peer.events(), [restarted, Event::Authenticating]);
        assert_eq!(peer.did.contains(&Did::Close), !full);
        assert!(peer.session.wants_data());
        peer.did.clear();
        assert_eq!(peer.send(&header, 1), 1);
        let connection = if full { Connection::Same } else { Connection::New };
        let Did::Start { push_id, connection: used, .. } = &peer.did[0] else { panic!("{:?}", peer.did) };
        assert_eq!((push_id.as_str(), *used), ("refused", connection));
        assert_eq!(peer.packets(), [Packet::Header(header.bytes().clone())]);
        assert_eq!(parameter(peer.authorization().unwrap(), "nc"), "00000001");
        assert_eq!(peer.events(), [Event::Started]);
    }
}

/// C-13: a 401 after `$E` means that nothing was accepted: data and end are sent again.
#[test]
fn c13_refused_after_the_end() {
    let header = header();
    let mut peer = Played::open(bobs(), &wms(204, "a"), &header);
    peer.end();
    peer.respond(&unauthorized(&[DIGEST]));
    assert!(
        peer.events().contains(&Event::Restarted { reason: RestartReason::Unauthenticated, rewind: FRAMED as u64 })
    );
    peer.did.clear();
    peer.send(&header, 1);
    peer.end();
    assert_eq!(peer.packets(), [Packet::Header(header.bytes().clone()), Packet::End(Hresult::OK)]);
    peer.respond(&wms(204, "a"));
    peer.closed(true);
    assert_eq!(peer.events().last(), Some(&Event::Ended { clean: true }));
    // Without a challenge it is a response to the end like any other.
    let mut peer = Played::open(bobs(), &wms(204, "a"), &header);
    peer.end();
    peer.respond(&relay(401));
    peer.closed(true);
    assert_eq!(peer.events(), [Event::Ended { clean: true }]);
}

/// An expired nonce is replaced, even if the server does not set `stale`.
#[test]
fn c13_old_nonces() {
    for fresh in
        ["Digest realm=\"live\", nonce=\"two\", qop=auth, stale=true", "Digest realm=live, nonce=two, qop=auth"]
    {
        let header = header();
        let mut peer = begun(bobs());
        peer.respond(&unauthorized(&[DIGEST]));
        peer.respond(&wms(204, "a"));
        peer.send(&header, 1);
        peer.respond(&unauthorized(&[fresh]));
        peer.send(&header, 1);
        let answer = peer.authorization().unwrap();
        assert_eq!((parameter(answer, "nonce"), parameter(answer, "nc")), ("two", "00000001"), "{fresh}");
        assert_eq!(peer.failure(), None);
    }
}

/// The strongest scheme that both sides support is used, whatever the order in the challenges.
#[test]
fn c5_the_strongest_scheme() {
    let all = [BASIC, DIGEST, "NTLM", "Negotiate"];
    let digests = [DIGEST, "Digest realm=live, nonce=two, algorithm=SHA-256, qop=auth"];
    let only_digest = Methods { negotiate: false, ntlm: false, ..Methods::default() };
    let mut cases = vec![
        (Methods { basic: true, ..only_digest }, &all[..], Some("Digest username")),
        (only_digest, &digests[..], Some("nonce=\"two\"")),
        (Methods { digest: false, basic: true, ..only_digest }, &all[..], Some("Basic Ym9iOmh1c2g=")),
        (Methods { digest: false, ..only_digest }, &all[..], None),
        (Methods::default(), &[BASIC][..], None),
        (Methods::default(), &["Bearer"][..], None),
    ];
    if cfg!(feature = "ntlm") {
        cases.push((Methods::default(), &all[..], Some("Negotiate YE")));
        cases.push((Methods { negotiate: false, ..Methods::default() }, &all[..], Some("NTLM TlRMTVNTUAAB")));
    }
    for (auth_methods, offered, answer) in cases {
        let mut peer = begun(Config { auth_methods, ..bobs() });
        peer.respond(&unauthorized(offered));
        match answer {
            Some(part) => {
                assert!(peer.authorization().unwrap().contains(part), "{offered:?}: {:?}", peer.authorization());
            }
            None => {
                let failure = peer.failure().unwrap();
                assert_eq!((failure.hresult, failure.permanent), (Hresult::SERVER_ACCESS_DENIED, true));
                assert!(failure.text.contains(&offered[0][..5]), "{failure}");
                assert_eq!(peer.requests().len(), 1);
            }
        }
    }
}

/// No loop: a server that always responds with 401 receives two requests per set of credentials, whatever its
/// challenges.
#[test]
fn c5_a_second_refusal_is_final() {
    for challenge in [DIGEST, BASIC, "NTLM", "Negotiate"] {
        if !cfg!(feature = "ntlm") && !challenge.contains("realm") {
            continue;
        }
        let mut peer = begun(bobs());
        let mut refusals = 0;
        while !peer.session.is_down() && refusals < 50 {
            if matches!(peer.session.state, State::AwaitingCredentials { .. }) {
                assert_eq!((peer.question().attempt, peer.question().user.as_deref()), (2, Some("bob")));
                // The same set of credentials is not tried again.
                peer.supply(Some(bob()));
            } else {
                peer.respond(&unauthorized(&[challenge]));
                refusals += 1;
            }
        }
        assert_eq!(peer.requests().len(), 2, "{challenge}");
        let failure = peer.failure().unwrap();
        assert_eq!((failure.hresult, failure.permanent), (Hresult::SERVER_ACCESS_DENIED, true));
        assert_eq!(failure.status(), Some(401));
        assert!(failure.text.contains("bob") && failure.text.contains("refused"), "{failure}");
        assert!(!failure.to_string().contains("hush"));
    }
    // A nonce that always expires immediately does not lead to a loop either.
    let mut peer = begun(bobs());
    let stale = format!("{DIGEST}, stale=true");
    let mut refusals = 0;
    while peer.session.deadline().is_some() && !matches!(peer.session.state, State::AwaitingCredentials { .. }) {
        peer.respond(&unauthorized(&[&stale]));
        refusals += 1;
        assert!(refusals < 10);
    }
    assert_eq!(peer.requests().len(), 4);
}

/// An application that always supplies another password is asked five times.
#[test]
fn c5_sets_are_bounded() {
    let mut peer = begun(bobs());
    let mut supplied = 0;
    while !peer.session.is_down() {
        if matches!(peer.session.state, State::AwaitingCredentials { .. }) {
            supplied += 1;
            assert_eq!(peer.question().attempt, supplied + 1);
            peer.supply(Some(Credentials::new("bob", supplied.to_string())));
        } else {
            peer.respond(&unauthorized(&[DIGEST]));
        }
        assert!(supplied < 50);
    }
    assert_eq!((supplied, peer.requests().len()), (4, 6));
}

/// Missing credentials are requested with all the information that a person needs.
#[test]
fn c5_credentials_are_requested() {
    let with_name = Login { user: Some("bob".into()), password: None };
    for (challenge, scheme, clear_text) in [(DIGEST, Scheme::Digest, false), (BASIC, Scheme::Basic, true)] {
        let mut peer = begun(Config { login: with_name.clone(), ..bobs() });
        peer.respond(&unauthorized(&[challenge]));
        assert_eq!(
            peer.question(),
            CredentialRequest {
                target: Target::Server,
                realm: Some("live".into()),
                site: "media:8080".into(),
                scheme,
                clear_text,
                attempt: 1,
                user: Some("bob".into()),
            }
        );
        assert!(!peer.session.wants_data() && !peer.session.is_down());
        peer.supply(Some(Credentials::new("bob", "other")));
        assert!(peer.authorization().is_some());
        peer.respond(&wms(204, "a"));
        assert_eq!(peer.events().last(), Some(&Event::Opened));
    }
}

/// A missing or late answer is a failure whose remedy names the settings.
#[test]
fn c5_missing_credentials_are_a_failure() {
    type Act = fn(&mut Played);
    let acts: [(Act, &str); 2] =
        [(|peer| peer.supply(None), "no credentials are configured"), (|peer| peer.pass(SUPPLY_TIMEOUT), "time")];
    for (act, word) in acts {
        let mut peer = begun(config());
        peer.respond(&unauthorized(&[DIGEST]));
        peer.pass(SUPPLY_TIMEOUT - Duration::from_secs(1));
        assert!(!peer.session.is_down());
        act(&mut peer);
        let failure = peer.failure().unwrap();
        assert_eq!((failure.hresult, failure.permanent), (Hresult::SERVER_ACCESS_DENIED, true));
        assert!(failure.text.contains(word) && failure.remedy.contains("user-pw"), "{failure}");
        // A late answer is ignored.
        peer.supply(Some(bob()));
        assert_eq!(peer.requests().len(), 1);
    }
}

/// A password that is readable over plain HTTP is reported once; over https it is not readable.
#[test]
fn basic_over_http_is_reported() {
    let mut peer = begun(bobs());
    peer.respond(&unauthorized(&[BASIC]));
    peer.respond(&wms(204, "a"));
    peer.send(&header(), 1);
    let told = |peer: &Played| peer.events().iter().filter(|e| matches!(e, Event::PasswordExposed(_))).count();
    assert_eq!((told(&peer), peer.authorization()), (1, Some("Basic Ym9iOmh1c2g=")));

    let url = Url::parse("https://media/concert").unwrap();
    let mut peer = begun(Config { url, https: true, ..bobs() });
    peer.respond(&unauthorized(&[BASIC]));
    assert_eq!((told(&peer), peer.authorization()), (0, Some("Basic Ym9iOmh1c2g=")));
}

/// C-4, C-5: credentials are sent only to the server they are for. After a redirect, another server receives none,
/// neither in advance nor after its own challenge.
#[test]
fn c4_c5_credentials_do_not_travel() {
    for (location, travels) in
        [("http://media:8080/other", true), ("http://media:81/concert", false), ("http://other:8080/concert", false)]
    {
        let mut peer = begun(bobs());
        peer.respond(&unauthorized(&[DIGEST]));
        peer.respond(&redirect(302, location));
        assert_eq!(peer.authorization().is_some(), travels, "{location}");
        peer.respond(&unauthorized(&[DIGEST]));
        if travels {
            continue;
        }
        assert_eq!(peer.question().user, None);
        assert!(location.contains(&peer.question().site));
        peer.supply(Some(Credentials::new("alice", "x")));
        assert_eq!(parameter(peer.authorization().unwrap(), "username"), "alice");
        // A new session at the original server uses nothing of the other server.
        peer.respond(&wms(204, "a"));
        peer.session.disconnect(peer.now);
        peer.session.connect(peer.now);
        peer.run();
        assert_eq!(peer.authorization(), None);
    }
}

/// 407 uses the proxy's own credentials and header; both proxy and server may require authentication.
#[test]
fn c5_proxy_and_server() {
    let proxy = Proxy { url: Url::parse("http://proxy:3128").unwrap(), login: login("alice", "psst") };
    let url = Url::parse("http://media:8080/concert;x?y=1").unwrap();
    let mut peer = begun(Config { url, proxy: ProxyConfig::Always(proxy), ..bobs() });
    peer.respond(&refusal(Target::Proxy, &[DIGEST]));
    peer.respond(&unauthorized(&[DIGEST]));
    peer.respond(&wms(204, "a"));
    peer.send(&header(), 1);
    let [Some(server), Some(proxy)] = peer.authorizations.last().unwrap() else { panic!() };
    assert_eq!((parameter(server, "username"), parameter(proxy, "username")), ("bob", "alice"));
    assert_eq!((parameter(server, "nc"), parameter(proxy, "nc")), ("00000002", "00000003"));
    // RFC 7616 3.4.6: as in the request line that each of them receives.
    assert_eq!(
        (parameter(server, "uri"), parameter(proxy, "uri")),
        ("/concert;x?y=1", "http://media:8080/concert;x?y=1")
    );

    let mut peer = begun(bobs());
    peer.respond(&refusal(Target::Proxy, &[BASIC]));
    let question = peer.question();
    assert_eq!((question.target, question.clear_text, question.user), (Target::Proxy, true, None));
    peer.supply(None);
    let failure = peer.failure().unwrap();
    assert_eq!((failure.hresult, failure.status()), (Hresult::PROXY_ACCESS_DENIED, Some(407)));
    assert!(failure.text.contains("the proxy") && failure.remedy.contains("proxy-pw"), "{failure}");
}

/// C-15: a resumed session is authenticated if its server requires it.
#[test]
fn c15_a_resume_is_authenticated() {
    let header = header();
    let mut peer = Played::open(bobs(), &ours(204, "abc"), &header);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    peer.send(&header, 1);
    peer.did.clear();
    let mut refusal = ours(401, "abc");
    refusal.headers.insert("www-authenticate", HeaderValue::from_static(DIGEST));
    peer.respond(&refusal);
    peer.send(&header, 1);
    assert_eq!(peer.requests(), [start("abc", Connection::New)]);
    assert_eq!(peer.packets(), [], "C-15: it continues with $D");
    assert!(peer.authorization().is_some());
}

/// C-15, H-6: a 401 that sets another push-id means that the session is gone. A new one begins in the same attempt,
/// authenticated with the new nonce, and the data of the old one is sent again.
#[test]
fn c15_h6_a_401_with_another_id_ends_a_resume() {
    let header = header();
    let mut peer = begun(bobs());
    peer.respond(&unauthorized(&[DIGEST]));
    peer.respond(&ours(204, "abc"));
    peer.send(&header, 1);
    peer.lose(Cause::Reset);
    peer.session.connect(peer.now);
    assert_eq!(peer.send(&header, 2), 2);
    assert!(peer.authorization().is_some());
    peer.did.clear();
    let stale = [DIGEST.replace("one", "two"), "stale=true".to_owned()].join(", ");
    peer.respond(&unauthorized(&[&stale]));
    let restarted = Event::Restarted { reason: RestartReason::SessionGone, rewind: 2 * FRAMED as u64 };
    assert_eq!(peer.did, [Did::Close, Did::Event(restarted), setup("0")]);
    peer.respond(&unauthorized(&[&stale]));
    assert_eq!(parameter(peer.authorization().unwrap(), "nonce"), "two");
    peer.respond(&ours(204, "new"));
    assert_eq!(peer.send(&header, 2), 2);
    assert_eq!(peer.packets(), [Packet::Header(header.bytes().clone())]);
    assert_eq!(peer.failure(), None);
}

/// If the connection of the challenge is closed before the authenticated request, the request is sent on a new one,
/// once.
#[test]
fn c5_the_connection_of_a_challenge_is_lost() {
    for cause in [Cause::Stale, Cause::Closed, Cause::Reset] {
        let mut peer = begun(bobs());
        peer.respond(&unauthorized(&[DIGEST]));
        peer.did.clear();
        peer.lose(cause);
        let again = Did::Setup { push_id: "refused".into(), connection: Connection::New, body: String::new() };
        assert_eq!(peer.did, [Did::Close, again], "{cause:?}");
        peer.lose(cause);
        assert!(peer.failure().is_some());
    }
}

/// `Debug` output of requests and events contains no secret.
#[test]
fn no_secret_in_debug_output() {
    let mut peer = begun(bobs());
    peer.session.handle_response(&unauthorized(&[BASIC]), peer.now);
    let mut shown = format!("{:?} {:?}", peer.session, bobs());
    while let Some(output) = peer.session.poll() {
        shown.push_str(&format!("{output:?}"));
    }
    assert!(shown.contains("bob"));
    for secret in ["hush", "Ym9iOmh1c2g="] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[cfg(feature = "ntlm")]
mod on_one_connection {
    use super::*;
    use crate::auth::TicketRequest;
    use crate::auth::test_acceptor::Acceptor;

    fn token(value: &str) -> (&str, &str) {
        value.split_once(' ').unwrap()
    }

    /// C-5: the messages are sent on one connection, and a server that knows the password accepts them. Afterwards
    /// neither this PushStart nor the next one on that connection is authenticated (C-13).
    #[test]
    fn c5_c13_ntlm_and_negotiate_exchanges() {
        for (scheme, old) in [("NTLM", false), ("NTLM", true), ("Negotiate", false), ("Negotiate", true)] {
            for (user, password, right) in [
                ("bob", "hush", true),
                ("D\\bob", "hush", true),
                ("bob@studio.example", "hush", true),
                ("Stüdio\\Пётр", "hush", true),
                ("bob", "wrong", false),
            ] {
                let begin = if old { Acceptor::old } else { Acceptor::new };
                let mut acceptor = begin(scheme, user, "hush");
                let mut peer = begun(Config { content_length: Some(1), login: login(user, password), ..bobs() });
                peer.respond(&unauthorized(&[scheme]));
                let first = peer.authorization().unwrap().to_owned();
                assert_eq!(token(&first).0, scheme);
                let challenge = acceptor.challenge(token(&first).1);
                peer.did.clear();
                peer.respond(&unauthorized(&[&format!("{scheme} {challenge}")]));
                let again = Did::Setup { push_id: "refused".into(), connection: Connection::Same, body: String::new() };
                assert_eq!(peer.requests(), [again]);
                let answer = peer.authorization().unwrap().to_owned();
                assert_eq!(acceptor.accepts(token(&answer).1), right, "{scheme} {user} {password}");
                if !right {
                    peer.respond(&unauthorized(&[scheme]));
                    assert_eq!(peer.question().attempt, 2);
                    continue;
                }
                peer.respond(&wms(204, "a"));
                let header = header();
                peer.send(&header, 100);
                peer.respond(&wms(204, "a"));
                peer.send(&header, 1);
                assert_eq!(peer.authorizations[3..], [[None, None], [None, None]]);
            }
        }
    }

    /// C-5: if the connection closes during the exchange, the exchange fails.
    #[test]
    fn c5_needs_its_connection() {
        let mut acceptor = Acceptor::new("NTLM", "bob", "hush");
        let mut peer = begun(bobs());
        peer.respond(&unauthorized(&["NTLM"]));
        let challenge = acceptor.challenge(token(peer.authorization().unwrap()).1);
        peer.respond(&ResponseHead { keep_alive: false, ..unauthorized(&[&format!("NTLM {challenge}")]) });
        let failure = peer.failure().unwrap();
        assert!(failure.permanent && failure.text.contains("closed the connection"), "{failure}");
    }

    /// C-13: a PushStart cannot be authenticated with NTLM; PushSetup is repeated for it, once.
    #[test]
    fn c13_not_on_push_start() {
        let header = header();
        let mut peer = Played::open(bobs(), &wms(204, "a"), &header);
        peer.respond(&unauthorized(&["NTLM", BASIC]));
        assert_eq!(peer.requests(), [], "Basic can authenticate a PushStart");

        let mut peer = Played::open(bobs(), &wms(204, "a"), &header);
        peer.respond(&unauthorized(&["NTLM"]));
        let restarted = Event::Restarted { reason: RestartReason::Unauthenticated, rewind: FRAMED as u64 };
        assert_eq!(peer.did, [Did::Close, Did::Event(restarted), setup("0")]);
        assert_eq!(peer.authorization(), None);
        peer.respond(&wms(204, "b"));
        peer.send(&header, 1);
        peer.respond(&unauthorized(&["NTLM"]));
        let failure = peer.failure().unwrap();
        assert!(failure.permanent && failure.text.contains("PushStart"), "{failure}");
    }

    /// A session whose caller can obtain tickets.
    fn with_tickets(login: Login) -> Config {
        Config { login, tickets: true, ..config() }
    }

    fn request(peer: &Played) -> TicketRequest {
        let mut requests = peer
            .events()
            .into_iter()
            .filter_map(|event| if let Event::TicketNeeded(request) = event { Some(request) } else { None });
        requests.next_back().expect("a ticket is wanted")
    }

    fn hand_ticket(peer: &mut Played, answer: Result<&[u8], &str>) {
        peer.session.ticket(answer.map(<[u8]>::to_vec).map_err(str::to_owned), peer.now);
        peer.run();
    }

    /// Negotiate uses Kerberos if no user is configured or the user name contains a realm. A ticket is sent once, and a
    /// rejected PushStart gets another one.
    #[test]
    fn c5_c13_kerberos() {
        let alice = Credentials::new("alice@REALM", "hush");
        for (login, credentials) in [(Login::default(), None), (login("alice@REALM", "hush"), Some(alice))] {
            let header = header();
            let mut peer = begun(with_tickets(login));
            peer.respond(&unauthorized(&["Negotiate", "NTLM"]));
            assert_eq!(request(&peer), TicketRequest { host: "media".into(), credentials });
            assert!(!peer.session.is_down() && !peer.session.wants_data());
            hand_ticket(&mut peer, Ok(b"one"));
            assert_eq!(peer.authorization(), Some("Negotiate b25l"));
            peer.respond(&wms(204, "a"));
            assert_eq!(peer.session.auth_scheme(), Some("Negotiate"));
            peer.send(&header, 1);
            assert_eq!(peer.authorization(), None);
            peer.respond(&unauthorized(&["Negotiate"]));
            hand_ticket(&mut peer, Ok(b"two"));
            peer.did.clear();
            peer.send(&header, 1);
            assert_eq!((peer.authorization(), peer.packets().len()), (Some("Negotiate dHdv"), 1));
            // The second ticket was rejected like the first, and no third is tried.
            peer.respond(&unauthorized(&["Negotiate"]));
            assert!(!peer.session.wants_data());
        }
    }

    /// If no ticket can be obtained, or it is rejected, NTLM and credentials are used; the Kerberos error is still
    /// reported.
    #[test]
    fn c5_no_ticket() {
        let mut peer = begun(with_tickets(login("bob@REALM", "hush")));
        peer.respond(&unauthorized(&["Negotiate"]));
        hand_ticket(&mut peer, Err("no KDC"));
        assert!(peer.authorization().unwrap().starts_with("Negotiate YE"), "SPNEGO with NTLM");

        for refused in [false, true] {
            let mut peer = begun(with_tickets(Login::default()));
            peer.respond(&unauthorized(&["Negotiate"]));
            if refused {
                hand_ticket(&mut peer, Ok(b"one"));
                peer.respond(&unauthorized(&["Negotiate"]));
            } else {
                hand_ticket(&mut peer, Err("no KDC"));
            }
            assert_eq!((peer.question().scheme, peer.question().attempt), (Scheme::Negotiate, 1));
            peer.supply(None);
            let failure = peer.failure().unwrap();
            assert!(failure.permanent && failure.text.contains(if refused { "ticket was refused" } else { "no KDC" }));
        }
    }

    /// A plain name is not a Kerberos principal, and another server receives no tickets (C-4).
    #[test]
    fn c4_c5_no_ticket_is_requested() {
        for login in
            [login("bob", "hush"), login("STUDIO\\bob@x", "hush"), Login { user: Some("bob".into()), password: None }]
        {
            let mut peer = begun(with_tickets(login));
            peer.respond(&unauthorized(&["Negotiate"]));
            assert!(!peer.events().iter().any(|event| matches!(event, Event::TicketNeeded(_))));
        }
        let mut peer = begun(with_tickets(Login::default()));
        peer.respond(&redirect(302, "http://other/live"));
        peer.respond(&unauthorized(&["Negotiate"]));
        assert_eq!(peer.question().site, "other:80");
    }

    /// The wait for a realm that does not respond is bounded.
    #[test]
    fn c5_a_ticket_that_does_not_arrive() {
        let mut peer = begun(with_tickets(Login::default()));
        peer.respond(&unauthorized(&["Negotiate"]));
        peer.pass(SUPPLY_TIMEOUT);
        assert!(peer.failure().unwrap().text.contains("ticket"));
    }

    /// C-5: each connection is authenticated separately.
    #[test]
    fn c5_c15_a_new_connection_is_authenticated_again() {
        let header = header();
        let mut acceptor = Acceptor::new("NTLM", "bob", "hush");
        let mut peer = begun(bobs());
        peer.respond(&unauthorized(&["NTLM"]));
        let challenge = acceptor.challenge(token(peer.authorization().unwrap()).1);
        peer.respond(&unauthorized(&[&format!("NTLM {challenge}")]));
        peer.respond(&ours(204, "abc"));
        peer.send(&header, 1);
        peer.lose(Cause::Reset);
        peer.session.connect(peer.now);
        peer.send(&header, 1);
        peer.respond(&response(401, &[("server", "Cougar/9.6"), ("www-authenticate", "NTLM")]));
        assert!(matches!(peer.requests().last(), Some(Did::Setup { .. })), "C-13");
        assert_eq!(peer.authorization(), None);
        peer.respond(&unauthorized(&["NTLM"]));
        assert!(peer.authorization().unwrap().starts_with("NTLM TlRMTVNTUAAB"));
        // C-15: the connection is authenticated now, and the session still occupies the publishing point.
        peer.did.clear();
        peer.respond(&wms(409, "0"));
        assert_eq!(peer.send(&header, 1), 1);
        assert_eq!((peer.requests(), peer.packets()), (vec![start("abc", Connection::Same)], vec![]));
    }

    /// An invalid token from the server is reported as such.
    #[test]
    fn nonsense_tokens() {
        for scheme in ["NTLM", "Negotiate"] {
            for nonsense in ["AAAA", "TlRMTVNTUAACAAAA", "####", "YIIB", "TlRMTVNTUAACAAAA//////////8VgonivCxoCtuZ9/8="]
            {
                let mut peer = begun(bobs());
                peer.respond(&unauthorized(&[scheme]));
                peer.respond(&unauthorized(&[&format!("{scheme} {nonsense}")]));
                let failed = peer.failure().is_some_and(|failure| failure.permanent);
                assert!(
                    failed || matches!(peer.session.state, State::AwaitingCredentials { .. }),
                    "{scheme} {nonsense}"
                );
            }
        }
    }
}
