//! Checks of RFC 9112 on request heads that the HTTP library does not make.

use http::uri::Authority;
use http::{HeaderValue, Request, StatusCode, Version, header};

/// Checks a head, and copies the authority of the request target to the Host header (RFC 9112, 3.2.2).
///
/// # Errors
/// The status of the response, and the reason.
pub(crate) fn check<B>(request: &mut Request<B>) -> Result<(), (StatusCode, &'static str)> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() >= Version::HTTP_11 => {
            return Err((StatusCode::BAD_REQUEST, "HTTP/1.1 requests must have a Host header"));
        }
        (_, Some(_)) => return Err((StatusCode::BAD_REQUEST, "the request has more than one Host header")),
        (Some(host), None) if !is_host(host) => {
            return Err((StatusCode::BAD_REQUEST, "the Host header contains no host"));
        }
        (None | Some(_), None) => {}
    }
    let expects_more = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if request.headers().get_all(header::EXPECT).iter().any(expects_more) {
        return Err((StatusCode::EXPECTATION_FAILED, "the server supports no expectation other than 100-continue"));
    }
    // RFC 9112, 3.2.2: a server must ignore the Host header if the target has an authority.
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str());
        let host = host.map_err(|_| (StatusCode::BAD_REQUEST, "the request target contains no host"))?;
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(())
}

/// Returns whether the value is a host with or without a port, or empty, as for a target without a host.
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.is_empty() || (!text.contains('@') && text.parse::<Authority>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_checked_by_rfc_9112() {
        for (version, target, hosts, expect, expected) in [
            (Version::HTTP_11, "/concert", &["x"][..], None, Ok("x")),
            (Version::HTTP_11, "/concert", &["[::1]:8080"], Some("100-Continue"), Ok("[::1]:8080")),
            (Version::HTTP_11, "/concert", &[""], None, Ok("")),
            (Version::HTTP_10, "/concert", &[], None, Ok("")),
            (Version::HTTP_11, "http://one.example:80/concert", &["other.example"], None, Ok("one.example:80")),
            (Version::HTTP_11, "/concert", &[], None, Err(400)),
            (Version::HTTP_11, "/concert", &["x", "x"], None, Err(400)),
            (Version::HTTP_10, "/concert", &["x", "y"], None, Err(400)),
            (Version::HTTP_11, "/concert", &["\"><script>"], None, Err(400)),
            (Version::HTTP_11, "/concert", &["user:secret@x"], None, Err(400)),
            (Version::HTTP_11, "/concert", &["x"], Some("200-ok"), Err(417)),
        ] {
            let mut request = Request::builder().version(version).uri(target).body(()).unwrap();
            for host in hosts {
                request.headers_mut().append(header::HOST, HeaderValue::from_str(host).unwrap());
            }
            if let Some(expect) = expect {
                request.headers_mut().insert(header::EXPECT, HeaderValue::from_static(expect));
            }
            let checked = check(&mut request).map_err(|(status, _)| status.as_u16());
            let host = request.headers().get(header::HOST).map_or("", |host| host.to_str().unwrap());
            assert_eq!(checked.map(|()| host), expected, "{version:?} {target} {hosts:?} {expect:?}");
        }
    }
}
