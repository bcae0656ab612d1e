//! Files that lead a browser's players to a point ([MS-WMSP] leaves what web clients get to the server; Windows Media
//! Services give this).

use http::header;
use http::uri::Authority;
use http::{Request, Uri};

use super::request::without_asx;
use wmhttp::server::{Policy, reply_to_non_encoder};

/// The ASX that names the point of a URL: its type and its text.
pub(crate) fn file(policy: &Policy, url: &str) -> (&'static str, String) {
    reply_to_non_encoder(policy, url).body.unwrap_or_default()
}

/// The URL that a request is for as its client sees it, without a query and an `.asx`. What comes as Host is outside
/// data: where it names no host, the server is `localhost`.
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
    fn the_url_is_the_clients() {
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
