//! The two requests, the grammar of bodies and the timers, in virtual time.

use super::*;
use crate::headers::Cookies;
use crate::packet::FRAMING_LEN;
use crate::via::Via;

const HEADER: &[u8] = b"file header";
const NEXT_HEADER: &[u8] = b"next file header";
const ID: &str = "4124758405";

fn id() -> PushId {
    PushId::parse(ID).unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn head(kind: Kind, push_id: &str) -> RequestHead {
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, HeaderValue::from_str(&format!("push-id={push_id}")).unwrap());
    RequestHead {
        kind,
        accept_authentication: Vec::new(),
        authorization: Vec::new(),
        via: Via::default(),
        user_agent: "WMEncoder/12.0.0.0 tests/1".to_owned(),
        content_length: 2_147_483_647,
        cookies: Cookies::from_request(&headers).unwrap(),
    }
}

fn set_up(lookup: PointLookup) -> (Option<ServerSession>, Reply) {
    let setup = head(Kind::Setup, "0");
    accept(&setup, &Directives::default(), lookup, id(), &Policy::default(), Instant::now())
}

/// A session after PushSetup, and the current time.
fn session() -> (ServerSession, Instant) {
    let now = Instant::now();
    let setup = head(Kind::Setup, "0");
    let directives = Directives { auto_destroy: true, ..Directives::default() };
    let (reception, _) = accept(&setup, &directives, PointLookup::Exists, id(), &Policy::default(), now);
    (reception.unwrap(), now)
}

/// A session whose first PushStart has just arrived.
fn started() -> (ServerSession, Instant) {
    let (mut reception, now) = session();
    reception.start(&head(Kind::Start, ID), now).unwrap();
    (reception, now)
}

/// A session whose first PushStart has sent `$H`.
fn streaming() -> (ServerSession, Instant) {
    let (mut reception, now) = started();
    reception.body(bytes_of(&[file_header()]), now);
    assert_eq!(outputs(&mut reception), [Output::Header(HEADER.into())]);
    (reception, now)
}

fn outputs(reception: &mut ServerSession) -> Vec<Output> {
    std::iter::from_fn(|| reception.poll()).collect()
}

fn file_header() -> Packet {
    Packet::Header(HEADER.into())
}

fn change() -> Packet {
    Packet::StreamChange(NEXT_HEADER.into())
}

fn data(text: &'static str) -> Packet {
    Packet::Data(text.as_bytes().into())
}

fn bytes_of(packets: &[Packet]) -> Bytes {
    packets.iter().flat_map(|packet| packet.to_bytes().unwrap()).collect()
}

fn no_content(close: bool) -> Output {
    let push_id = (!close).then(id);
    Output::Reply(Reply { close, push_id, outcome: Outcome::Accepted, ..Reply::new(&Policy::default(), 204) })
}

fn ended(reason: Hresult) -> Output {
    Output::Ended { reason, destroy: true }
}

/// Asserts that the session ended immediately with an error `status`, and that no further input has an effect.
#[track_caller]
fn assert_ended(reception: &mut ServerSession, status: u16, reason: Hresult, now: Instant) {
    let given = outputs(reception);
    let [Output::Reply(reply), end] = given.as_slice() else { panic!("{given:?}") };
    assert_eq!((reply.status, reply.close, reply.push_id.as_ref()), (status, true, None), "{reply:?}");
    assert_eq!(*end, ended(reason));
    assert_dead(reception, now);
}

#[track_caller]
fn assert_dead(reception: &mut ServerSession, now: Instant) {
    assert!(reception.is_over() && !reception.is_streaming());
    assert_eq!(reception.deadline(), None);
    reception.body(bytes_of(&[data("late")]), now);
    reception.body_end(now);
    reception.connection_lost(now);
    reception.timed_out(now + seconds(10_000));
    reception.terminate(500, now);
    assert_eq!(reception.start(&head(Kind::Start, ID), now).unwrap_err().status, 412);
    assert_eq!(reception.set_up_again(&Directives::default(), now).status, 412);
    assert_eq!(outputs(reception), []);
}

/// The outputs for a first PushStart with this body in chunks of `size` bytes.
fn outputs_of_chunks(body: &Bytes, size: usize) -> Vec<Output> {
    let (mut reception, now) = started();
    for chunk in body.chunks(size) {
        reception.body(Bytes::copy_from_slice(chunk), now);
    }
    reception.body_end(now);
    outputs(&mut reception)
}

#[track_caller]
fn assert_every_chunking(packets: &[Packet], expected: &[Output]) {
    let body = bytes_of(packets);
    for size in 1..=body.len() {
        assert_eq!(outputs_of_chunks(&body, size), expected, "chunks of {size} bytes");
    }
}

#[test]
fn s1_a_session_has_the_fresh_id_and_the_requested_autodestroy() {
    let (reception, now) = session();
    assert_eq!(*reception.push_id(), id());
    assert!(reception.auto_destroy());
    assert!(!set_up(PointLookup::Exists).0.unwrap().auto_destroy());
    let setup = head(Kind::Setup, "0");
    let zero = PushId::new_session();
    let (none, reply) = accept(&setup, &Directives::default(), PointLookup::Exists, zero, &Policy::default(), now);
    assert!(none.is_none());
    assert_eq!(reply.status, 500);
}

#[test]
fn s1_the_id_is_not_in_debug_output() {
    let (mut reception, now) = streaming();
    reception.body_end(now);
    let text = format!("{reception:?} {:?}", set_up(PointLookup::Exists).1.to_headers());
    assert!(text.contains("hidden") && !text.contains(ID), "{text}");
}

#[test]
fn s2_header_data_and_stream_change_restart_the_idle_timeout() {
    let (mut reception, start) = started();
    assert_eq!(reception.deadline(), Some(start + seconds(60)));
    let end_of_entry = Packet::End(Hresult::FALSE);
    let mut last = start;
    for (step, packet, restarts) in [
        (10, file_header(), true),
        (20, Packet::Filler(4), false),
        (30, data("one"), true),
        (40, end_of_entry, false),
        (50, change(), true),
        (60, Packet::Filler(0), false),
    ] {
        let now = start + seconds(step);
        reception.body(bytes_of(std::slice::from_ref(&packet)), now);
        if restarts {
            last = now;
        }
        assert_eq!(reception.deadline(), Some(last + seconds(60)), "{packet:?}");
    }
}

#[test]
fn s2_half_a_packet_does_not_restart_the_idle_timeout() {
    let (mut reception, start) = streaming();
    let packet = bytes_of(&[data("halves")]);
    reception.body(packet.slice(..7), start + seconds(20));
    assert_eq!(reception.deadline(), Some(start + seconds(60)));
    reception.body(packet.slice(7..), start + seconds(30));
    assert_eq!(reception.deadline(), Some(start + seconds(90)));
}

#[test]
fn s2_an_idle_push_is_answered_408_and_ended() {
    let (mut reception, start) = streaming();
    reception.timed_out(start + seconds(59));
    assert_eq!(outputs(&mut reception), []);
    reception.timed_out(start + seconds(60));
    assert_ended(&mut reception, 408, Hresult::TIMEOUT, start + seconds(60));
}

#[test]
fn s2_the_idle_timeout_is_at_least_10_s() {
    let policy = Policy { idle_timeout: seconds(3), ..Policy::default() };
    let now = Instant::now();
    let setup = head(Kind::Setup, "0");
    let (reception, reply) = accept(&setup, &Directives::default(), PointLookup::Exists, id(), &policy, now);
    assert_eq!(reply.to_headers()[header::PRAGMA], "no-cache, timeout=10000");
    let mut reception = reception.unwrap();
    reception.start(&head(Kind::Start, ID), now).unwrap();
    assert_eq!(reception.deadline(), Some(now + seconds(10)));
}

#[test]
fn s3_between_requests_the_inactivity_timeout_runs() {
    let (mut reception, start) = session();
    assert_eq!(reception.deadline(), Some(start + seconds(120)));
    reception.connection_lost(start);
    reception.timed_out(start + seconds(119));
    assert_eq!(outputs(&mut reception), []);
    reception.timed_out(start + seconds(120));
    assert_eq!(outputs(&mut reception), [Output::Close, ended(Hresult::TIMEOUT)]);
    assert_dead(&mut reception, start + seconds(120));
}

#[test]
fn s3_a_repeated_setup_restarts_the_inactivity_timeout() {
    let (mut reception, start) = session();
    assert_eq!(reception.set_up_again(&Directives::default(), start + seconds(100)).status, 204);
    assert_eq!(reception.deadline(), Some(start + seconds(220)));
}

#[test]
fn s4_a_client_that_is_not_an_encoder_gets_an_asx_or_an_error() {
    let reply = reply_to_non_encoder(&Policy::default(), "http://host/point?a=1&b=\"<2>\"");
    assert_eq!(reply.status, 200);
    let headers = reply.to_headers();
    assert_eq!(headers[header::CONTENT_TYPE], "video/x-ms-asf");
    let (_, asx) = reply.body.unwrap();
    assert_eq!(headers[header::CONTENT_LENGTH], asx.len().to_string());
    assert!(asx.contains("<REF HREF=\"http://host/point?a=1&amp;b=&quot;&lt;2&gt;&quot;\"/>"), "{asx}");

    let stranger = RequestHead { user_agent: "NSPlayer/12.0".to_owned(), ..head(Kind::Setup, "0") };
    let policy = Policy::default();
    let (none, reply) = accept(&stranger, &Directives::default(), PointLookup::Exists, id(), &policy, Instant::now());
    assert!(none.is_none());
    assert_eq!(reply.status, 400);
}

#[test]
fn s5_a_redirect_has_a_location_and_closes() {
    let place = "http://other/point";
    for (lookup, status) in
        [(PointLookup::Moved(place.to_owned()), 302), (PointLookup::UseProxy(place.to_owned()), 305)]
    {
        let (none, reply) = set_up(lookup);
        assert!(none.is_none());
        assert_eq!(reply.status, status);
        let headers = reply.to_headers();
        assert_eq!(headers[header::LOCATION], place);
        assert_eq!(headers[header::CONNECTION], "close");
        assert!(!headers.contains_key(header::SET_COOKIE));
    }
}

#[test]
fn s7_a_setup_with_an_unknown_id_is_an_error() {
    let setup = head(Kind::Setup, "12345");
    let policy = Policy::default();
    let (none, reply) = accept(&setup, &Directives::default(), PointLookup::Exists, id(), &policy, Instant::now());
    assert!(none.is_none());
    assert_eq!(reply, unknown_session(&policy));
    assert_eq!((reply.status, reply.close), (412, true));
}

#[test]
fn s7_a_setup_with_the_sessions_id_is_confirmed_unless_a_push_start_is_in_progress() {
    let (mut reception, now) = session();
    let reply = reception.set_up_again(&Directives::default(), now);
    assert_eq!((reply.status, reply.close, reply.push_id), (204, false, Some(id())));
    assert!(!reception.auto_destroy());

    let (mut reception, now) = streaming();
    let reply = reception.set_up_again(&Directives::default(), now);
    assert_eq!((reply.status, reply.close), (409, true));
    assert!(reception.auto_destroy());
    reception.body(bytes_of(&[data("continues")]), now);
    assert_eq!(outputs(&mut reception), [Output::Data("continues".into())]);
}

#[test]
fn s8_the_url_must_be_a_publishing_point_or_become_one() {
    for (lookup, status) in [
        (PointLookup::Exists, 204),
        (PointLookup::FromTemplate, 204),
        (PointLookup::Missing, 404),
        (PointLookup::Busy, 409),
    ] {
        let (reception, reply) = set_up(lookup.clone());
        assert_eq!(reply.status, status, "{lookup:?}");
        assert_eq!(reception.is_some(), status == 204, "{lookup:?}");
        assert_eq!(reply.close, status != 204, "{lookup:?}");
    }
}

#[test]
fn s9_success_is_204_with_the_headers_of_a_windows_media_server() {
    let (_, reply) = set_up(PointLookup::Exists);
    assert_eq!((reply.status, reply.close), (204, false));
    let headers = reply.to_headers();
    let server = format!("Cougar/9.6.7600.16564 asf-publishing-point/{}", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        (header::SERVER, server.as_str()),
        (header::PRAGMA, "no-cache, timeout=60000"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::SET_COOKIE, "push-id=4124758405"),
        (
            SUPPORTED,
            "com.microsoft.wm.srvppair, com.microsoft.wm.sswitch, com.microsoft.wm.predstrm, \
             com.microsoft.wm.fastcache, com.microsoft.wm.startupprofile",
        ),
        (header::CONTENT_LENGTH, "0"),
    ] {
        assert_eq!(headers[&name], value, "{name}");
    }
    assert_eq!(headers.len(), 6, "{headers:?}");
}

#[test]
fn s9_an_error_has_a_reason_and_closes() {
    let headers = Reply::error(&Policy::default(), 404, "why").to_headers();
    assert_eq!(headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert_eq!(headers[header::CONTENT_LENGTH], "4");
    assert_eq!(headers[header::CONNECTION], "close");
    let policy = Policy { server: "not\nheader".to_owned(), ..Policy::default() };
    assert_eq!(Reply::error(&policy, 404, "why").to_headers()[header::SERVER], "Cougar/9.6.7600.16564");
}

#[test]
fn s10_a_push_start_needs_its_session() {
    let policy = Policy::default();
    let orphan = head(Kind::Start, "0");
    let (none, reply) = accept(&orphan, &Directives::default(), PointLookup::Exists, id(), &policy, Instant::now());
    assert!(none.is_none());
    assert_eq!(reply.status, 412);

    let (mut reception, now) = session();
    assert_eq!(reception.start(&head(Kind::Start, "12345"), now).unwrap_err().status, 412);
    assert_eq!(reception.start(&head(Kind::Setup, ID), now).unwrap_err().status, 400);
    assert!(!reception.is_streaming());
    reception.start(&head(Kind::Start, ID), now).unwrap();
    assert!(reception.is_streaming());
}

#[test]
fn s10_a_second_push_start_is_rejected_and_the_first_continues() {
    let (mut reception, now) = streaming();
    let packet = bytes_of(&[data("continues")]);
    reception.body(packet.slice(..5), now);
    let refused = reception.start(&head(Kind::Start, ID), now + seconds(5)).unwrap_err();
    assert_eq!((refused.status, refused.close), (409, true));
    assert_eq!(reception.deadline(), Some(now + seconds(60)));
    reception.body(packet.slice(5..), now);
    assert_eq!(outputs(&mut reception), [Output::Data("continues".into())]);
}

#[test]
fn s11_the_sessions_first_packet_is_its_header() {
    for packet in [data("x"), change(), Packet::End(Hresult::OK), Packet::Filler(1)] {
        let (mut reception, now) = started();
        reception.body(bytes_of(&[packet]), now);
        assert_ended(&mut reception, 400, Hresult::BAD_REQUEST, now);
    }
    let (mut reception, now) = started();
    reception.body_end(now);
    assert_ended(&mut reception, 400, Hresult::BAD_REQUEST, now);
}

#[test]
fn s11_p8_a_header_is_sent_once_per_session() {
    let (mut reception, now) = streaming();
    reception.body(bytes_of(&[file_header()]), now);
    assert_ended(&mut reception, 400, Hresult::BAD_REQUEST, now);

    let (mut reception, now) = streaming();
    reception.body_end(now);
    assert_eq!(outputs(&mut reception), [no_content(false)]);
    reception.start(&head(Kind::Start, ID), now).unwrap();
    reception.body(bytes_of(&[file_header()]), now);
    assert_ended(&mut reception, 400, Hresult::BAD_REQUEST, now);
}

#[test]
fn s11_an_invalid_packet_ends_the_session_and_earlier_packets_are_kept() {
    for wrong in [&b"GET / HTTP/1.1"[..], b"$Z\0\0", b"$E\x05\0", b"$D\0\0", b"$C\x04\0\0\0\0\0"] {
        let (mut reception, now) = streaming();
        let body = [&bytes_of(&[data("kept")])[..], wrong].concat();
        reception.body(body.into(), now);
        assert_eq!(reception.poll(), Some(Output::Data("kept".into())));
        assert_ended(&mut reception, 400, Hresult::BAD_REQUEST, now);
    }
}

#[test]
fn s12_a_complete_body_gets_a_response_and_the_session_continues() {
    let (mut reception, start) = streaming();
    let end = start + seconds(30);
    reception.body(bytes_of(&[data("one"), Packet::Filler(7)]), end);
    reception.body_end(end);
    assert_eq!(outputs(&mut reception), [Output::Data("one".into()), no_content(false)]);
    assert!(!reception.is_streaming() && !reception.is_over());
    assert_eq!(reception.deadline(), Some(end + seconds(120)));
    reception.body_end(end);
    assert_eq!(outputs(&mut reception), []);

    let next = end + seconds(1);
    reception.start(&head(Kind::Start, ID), next).unwrap();
    assert_eq!(reception.deadline(), Some(next + seconds(60)));
    reception.body(bytes_of(&[data("two")]), next);
    assert_eq!(outputs(&mut reception), [Output::Data("two".into())]);
}

#[test]
fn s12_a_packet_cut_by_the_end_of_the_body_is_an_error() {
    let packet = bytes_of(&[data("cut")]);
    for cut in 1..packet.len() {
        let (mut reception, now) = streaming();
        reception.body(packet.slice(..cut), now);
        reception.body_end(now);
        assert_ended(&mut reception, 400, Hresult::BAD_REQUEST, now);
    }
}

#[test]
fn s13_an_end_with_another_reason_than_1_ends_the_session() {
    for reason in [Hresult::OK, Hresult::FAIL, Hresult(2), Hresult(0xA000_0001)] {
        let (mut reception, now) = streaming();
        // The rest of the body is ignored, even if it is not a packet.
        let body = [&bytes_of(&[data("last"), Packet::End(reason), data("x")])[..], b"rest"].concat();
        reception.body(body.into(), now);
        assert_eq!(outputs(&mut reception), [Output::Data("last".into()), no_content(true), ended(reason)]);
        assert_dead(&mut reception, now);
    }
}

#[test]
fn s13_an_end_may_begin_a_body() {
    let (mut reception, now) = streaming();
    reception.body(bytes_of(&[Packet::Filler(3)]), now);
    reception.body_end(now);
    reception.start(&head(Kind::Start, ID), now).unwrap();
    reception.body(bytes_of(&[Packet::End(Hresult::OK)]), now);
    assert_eq!(outputs(&mut reception), [no_content(false), no_content(true), ended(Hresult::OK)]);
}

#[test]
fn s13_without_autodestroy_the_publishing_point_stays() {
    let now = Instant::now();
    let mut reception = set_up(PointLookup::Exists).0.unwrap();
    reception.start(&head(Kind::Start, ID), now).unwrap();
    reception.body(bytes_of(&[file_header(), Packet::End(Hresult::OK)]), now);
    assert_eq!(outputs(&mut reception).pop(), Some(Output::Ended { reason: Hresult::OK, destroy: false }));
}

#[test]
fn s14_a_lost_session_resumes_with_whole_packets_within_the_idle_timeout() {
    let (mut reception, start) = streaming();
    let packet = bytes_of(&[data("again")]);
    reception.body(packet.slice(..6), start + seconds(10));
    reception.connection_lost(start + seconds(10));
    assert!(!reception.is_streaming() && !reception.is_over());
    assert_eq!(reception.deadline(), Some(start + seconds(60)), "the Idle-Timeout keeps running");
    // Late data of the lost connection is ignored.
    reception.body(packet.slice(6..), start + seconds(10));
    reception.body_end(start + seconds(10));
    assert_eq!(outputs(&mut reception), []);

    let back = start + seconds(59);
    reception.start(&head(Kind::Start, ID), back).unwrap();
    assert_eq!(reception.deadline(), Some(back + seconds(60)));
    reception.body(packet, back);
    assert_eq!(outputs(&mut reception), [Output::Data("again".into())]);
}

#[test]
fn s14_a_session_lost_before_its_header_still_needs_it() {
    let (mut reception, now) = started();
    reception.body(bytes_of(&[file_header()]).slice(..9), now);
    reception.connection_lost(now);
    reception.start(&head(Kind::Start, ID), now).unwrap();
    reception.body(bytes_of(&[file_header(), data("one")]), now);
    assert_eq!(outputs(&mut reception), [Output::Header(HEADER.into()), Output::Data("one".into())]);
}

#[test]
fn s14_s2_a_lost_session_that_is_not_resumed_is_deleted() {
    let (mut reception, start) = streaming();
    reception.connection_lost(start + seconds(20));
    reception.timed_out(start + seconds(59));
    assert_eq!(outputs(&mut reception), []);
    reception.timed_out(start + seconds(60));
    assert_eq!(outputs(&mut reception), [ended(Hresult::RESET_CONNECTION)]);
    assert_dead(&mut reception, start + seconds(60));
}

#[test]
fn s14_s7_a_lost_session_may_be_set_up_again() {
    let (mut reception, start) = streaming();
    reception.connection_lost(start);
    let now = start + seconds(5);
    assert_eq!(reception.set_up_again(&Directives::default(), now).status, 204);
    assert_eq!(reception.deadline(), Some(now + seconds(120)));
    reception.start(&head(Kind::Start, ID), now).unwrap();
    reception.body(bytes_of(&[data("on")]), now);
    assert_eq!(outputs(&mut reception), [Output::Data("on".into())]);
}

#[test]
fn s15_a_terminated_push_gets_a_response_immediately() {
    let (mut reception, now) = streaming();
    reception.terminate(503, now);
    assert_ended(&mut reception, 503, Hresult::ABORT, now);

    let (mut reception, now) = session();
    reception.terminate(503, now);
    assert_eq!(outputs(&mut reception), [Output::Close, ended(Hresult::ABORT)]);
    assert_dead(&mut reception, now);

    let (mut reception, now) = streaming();
    reception.connection_lost(now);
    reception.terminate(503, now);
    assert_eq!(outputs(&mut reception), [ended(Hresult::ABORT)]);
    assert_dead(&mut reception, now);
}

#[test]
fn p8_every_chunking_gives_the_same_outputs() {
    let packets = [
        file_header(),
        data("one"),
        data("two"),
        Packet::Filler(6),
        Packet::End(Hresult::FALSE),
        Packet::End(Hresult::FALSE),
        Packet::Filler(0),
        change(),
        data("three"),
        Packet::Filler(9),
    ];
    let mut expected = vec![
        Output::Header(HEADER.into()),
        Output::Data("one".into()),
        Output::Data("two".into()),
        Output::EntryEnded,
        Output::StreamChange(NEXT_HEADER.into()),
        Output::Data("three".into()),
    ];
    let whole = [&packets[..], &[Packet::End(Hresult::FAIL)]].concat();
    let at_end = [&expected[..], &[no_content(true), ended(Hresult::FAIL)]].concat();
    assert_every_chunking(&whole, &at_end);
    expected.push(no_content(false));
    assert_every_chunking(&packets, &expected);
}

#[test]
fn p8_an_error_is_the_same_in_every_chunking() {
    let packets = [file_header(), data("one"), change(), data("two")];
    let reply = Reply::last(&Policy::default(), 400, "a $C packet does not follow an $E packet with Reason 1");
    let expected =
        [Output::Header(HEADER.into()), Output::Data("one".into()), Output::Reply(reply), ended(Hresult::BAD_REQUEST)];
    assert_every_chunking(&packets, &expected);
}

#[test]
fn p8_data_after_the_end_of_an_entry_is_rejected() {
    let (mut reception, now) = streaming();
    reception.body(bytes_of(&[Packet::End(Hresult::FALSE)]), now);
    assert_eq!(outputs(&mut reception), [Output::EntryEnded]);
    reception.body(bytes_of(&[data("x")]), now);
    assert_ended(&mut reception, 400, Hresult::BAD_REQUEST, now);
}

#[test]
fn p8_s13_the_session_may_end_between_entries() {
    let (mut reception, now) = streaming();
    reception.body(bytes_of(&[Packet::End(Hresult::FALSE), Packet::End(Hresult::OK)]), now);
    assert_eq!(outputs(&mut reception), [Output::EntryEnded, no_content(true), ended(Hresult::OK)]);
}

#[test]
fn p8_s12_a_stream_change_may_follow_in_the_next_request_or_after_a_lost_connection() {
    for lost in [false, true] {
        let (mut reception, now) = streaming();
        reception.body(bytes_of(&[Packet::End(Hresult::FALSE), Packet::Filler(1)]), now);
        if lost {
            reception.connection_lost(now);
        } else {
            reception.body_end(now);
        }
        assert_eq!(outputs(&mut reception).first(), Some(&Output::EntryEnded));
        reception.start(&head(Kind::Start, ID), now).unwrap();
        reception.body(bytes_of(&[change(), data("three")]), now);
        let expected = [Output::StreamChange(NEXT_HEADER.into()), Output::Data("three".into())];
        assert_eq!(outputs(&mut reception), expected);
        // Each `$E`(1) allows one `$C`.
        reception.body(bytes_of(&[change()]), now);
        assert_ended(&mut reception, 400, Hresult::BAD_REQUEST, now);
    }
}

#[test]
fn p8_p5_data_is_a_slice_of_the_received_chunk() {
    let (mut reception, now) = streaming();
    let chunk = bytes_of(&[data("first packet"), data("second")]);
    let addresses = [FRAMING_LEN, 2 * FRAMING_LEN + 12].map(|offset| chunk[offset..].as_ptr());
    reception.body(chunk.clone(), now);
    for address in addresses {
        let Some(Output::Data(payload)) = reception.poll() else { panic!("no data") };
        assert_eq!(payload.as_ptr(), address);
    }
}

/// S-11: a rejection is final. Packets after the rejected one in the same read are not passed on, not even an `$E`.
#[test]
fn s11_packets_after_a_rejected_one_are_not_passed_on() {
    for last in [data("three"), Packet::End(Hresult::OK), Packet::End(Hresult::FALSE), change()] {
        let (mut session, now) = streaming();
        session.body(bytes_of(&[data("one"), data("two"), last]), now);
        assert_eq!(session.poll(), Some(Output::Data("one".into())));
        session.refuse("invalid ASF data packet");
        assert_ended(&mut session, 400, Hresult::BAD_REQUEST, now);
        session.refuse("again");
        assert_eq!(session.poll(), None);
    }
}
