//! Playlists that open a point in a browser's player. [MS-WMSP] does not specify the response to web clients; Windows
//! Media Services send such a file.

use http::header;
use http::uri::Authority;
use http::{Request, Uri};

use super::request::without_asx;
use wmhttp::server::{Policy, reply_to_non_encoder};

/// Returns the content type and the text of an ASX file for the URL of a point.
pub(crate) fn file(policy: &Policy, url: &str) -> (&'static str, String) {
    reply_to_non_encoder(policy, url).body.unwrap_or_default()
}

/// Returns the URL of a request as its client sees it, without the query and an `.asx`. The Host header is untrusted:
/// if it contains no valid host, the host is `localhost`.
pub(crate) fn url_of<B>(request: &Request<B>, scheme: &str) -> String {
    let uri: &Uri = request.uri();
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let host: Option<Authority> = host.and_then(|host| host.parse().ok()).or_else(|| uri.authority().cloned());
    let host = host.as_ref().map(Authority::as_str).filter(|host| !host.contains('@'));
    let path = without_asx(uri.path()).unwrap_or(uri.path());
    format!("{scheme}://{}{path}", host.unwrap_or("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_has_the_host_of_the_request() {
        for (target, host, url) in [
            ("/concert.asx", Some("media.example:8080"), "http://media.example:8080/concert"),
            ("http://media.example/concert?format=asx", None, "http://media.example/concert"),
            ("/concert", Some("[::1]:8080"), "http://[::1]:8080/concert"),
            ("/concert", Some("\"><script>"), "http://localhost/concert"),
            ("/concert", Some("user:secret@x"), "http://localhost/concert"),
            ("/concert", None, "http://localhost/concert"),
        ] {
            let mut request = Request::get(target);
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            assert_eq!(url_of(&request.body(()).unwrap(), "http"), url);
        }
    }
}
