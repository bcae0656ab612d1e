//! Converts the values of `location` that users may write to URLs.

use url::Url;

use asfpush_client::transport::tls;
use wmhttp::Hresult;
use wmhttp::auth::Login;

/// The URI scheme for `gst_element_make_from_uri`.
pub(super) const URI_SCHEME: &str = "wmpush+http";
/// The same over TLS.
const URI_SCHEME_TLS: &str = "wmpush+https";

/// All URI schemes.
pub(super) const URI_SCHEMES: &[&str] = if tls::AVAILABLE { &[URI_SCHEME, URI_SCHEME_TLS] } else { &[URI_SCHEME] };

/// Why a location cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LocationError {
    #[error("no location is set; set location=http://server:port/publishing-point")]
    Missing,
    #[error(
        "location has no valid host ({0}); write http://server:port/publishing-point, with an IPv6 address in brackets, such as [::1]"
    )]
    Unreadable(url::ParseError),
    #[error("location does not begin with a scheme; write http://server:port/publishing-point")]
    NoScheme,
    #[error("unsupported scheme {0}: in location; use http:, https:, mms: or mmsh:")]
    Scheme(String),
    #[error(
        "location is an https URL, but this build does not support TLS; use http:, or build the plugin with the cargo feature tls"
    )]
    NoTls,
}

impl LocationError {
    /// Returns the Windows code that describes the error best.
    pub(super) fn hresult(&self) -> Hresult {
        match self {
            Self::Missing => Hresult::INVALID_ARG,
            Self::Unreadable(url::ParseError::InvalidPort) => Hresult::INVALID_PORT,
            Self::Unreadable(
                url::ParseError::EmptyHost
                | url::ParseError::InvalidIpv4Address
                | url::ParseError::InvalidIpv6Address
                | url::ParseError::InvalidDomainCharacter
                | url::ParseError::IdnaError,
            ) => Hresult::INVALID_NAME,
            Self::Unreadable(_) | Self::NoScheme => Hresult::INVALID_URL,
            Self::Scheme(_) | Self::NoTls => Hresult::INVALID_SCHEME,
        }
    }
}

/// Returns the publishing point's URL without the credentials that `text` may contain.
pub(super) fn parse(text: Option<&str>) -> Result<Url, LocationError> {
    let text = text.map(str::trim).filter(|text| !text.is_empty()).ok_or(LocationError::Missing)?;
    let (text, _) = Login::split_from(text);
    let (scheme, rest) = text.split_once(':').ok_or(LocationError::NoScheme)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        // The other names are aliases.
        "http" | "mms" | "mmsh" | URI_SCHEME => "http",
        "https" | URI_SCHEME_TLS if tls::AVAILABLE => "https",
        "https" | URI_SCHEME_TLS => return Err(LocationError::NoTls),
        other if rest.starts_with("//") => return Err(LocationError::Scheme(other.to_owned())),
        // `server:8080/concert`
        _ => return Err(LocationError::NoScheme),
    };
    // The URL library ignores additional slashes, and would take the publishing point's name for the host.
    if rest.starts_with("///") {
        return Err(LocationError::Unreadable(url::ParseError::EmptyHost));
    }
    let mut url = Url::parse(&format!("{scheme}:{rest}")).map_err(LocationError::Unreadable)?;
    // Requests do not contain the fragment.
    url.set_fragment(None);
    Ok(url)
}

/// The parts of a location.
pub(super) struct Parts {
    /// The location without user name and password. If it had none, it is exactly as written.
    pub(super) location: String,
    /// Its URL.
    pub(super) url: Result<Url, LocationError>,
    /// User name and password, percent-decoded.
    pub(super) login: Login,
}

/// Splits off the user name and password.
pub(super) fn split_credentials(text: &str) -> Parts {
    let (bare, login) = Login::split_from(text);
    let url = parse(Some(&bare));
    let location = match &url {
        Ok(url) if login != Login::default() => url.to_string(),
        Ok(_) | Err(_) => bare.into_owned(),
    };
    Parts { location, url, login }
}

/// Splits `locations` at commas or white space, but not at `;`, which is legal in a path.
pub(super) fn split(locations: Option<&str>) -> impl Iterator<Item = &str> {
    let parts = locations.unwrap_or_default().split(|letter: char| letter == ',' || letter.is_whitespace());
    parts.filter(|part| !part.is_empty())
}

/// Returns `text` in a form that may be shown, or `None` if it is not a valid location, because it may then contain a
/// password anywhere.
pub(super) fn redacted(text: &str) -> Option<String> {
    parse(Some(text)).ok().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wmhttp::auth::Secret;

    #[test]
    fn spellings_of_http() {
        for text in
            ["http://a:8080/p;x?y=1", "mms://a:8080/p;x?y=1", "MMSH://a:8080/p;x?y=1", "wmpush+http://a:8080/p;x?y=1"]
        {
            assert_eq!(parse(Some(text)).unwrap().as_str(), "http://a:8080/p;x?y=1", "{text}");
        }
        assert_eq!(parse(Some(" http://a/p ")).unwrap().port_or_known_default(), Some(80));
    }

    #[test]
    fn spellings_of_https() {
        for text in ["https://a/p;x", "HTTPS://bob:secret@a:443/p;x#y", "wmpush+https://a/p;x"] {
            if tls::AVAILABLE {
                let url = parse(Some(text)).unwrap();
                assert_eq!((url.as_str(), url.port_or_known_default()), ("https://a/p;x", Some(443)), "{text}");
            } else {
                assert_eq!(parse(Some(text)), Err(LocationError::NoTls));
            }
        }
    }

    #[test]
    fn refusals_name_the_remedy() {
        for (text, hresult, word) in [
            (None, Hresult::INVALID_ARG, "location="),
            (Some(""), Hresult::INVALID_ARG, "location="),
            (Some("concert"), Hresult::INVALID_URL, "does not begin with a scheme; write http://"),
            (Some("/concert"), Hresult::INVALID_URL, "does not begin with a scheme; write http://"),
            (Some("//server/concert"), Hresult::INVALID_URL, "does not begin with a scheme; write http://"),
            (Some("server:8080/concert"), Hresult::INVALID_URL, "does not begin with a scheme; write http://"),
            (Some("10.0.0.1:8080/concert"), Hresult::INVALID_URL, "does not begin with a scheme; write http://"),
            (Some("[::1]:8080/concert"), Hresult::INVALID_URL, "does not begin with a scheme; write http://"),
            (Some("http:///concert"), Hresult::INVALID_NAME, "no valid host (empty host); write http://server"),
            (Some("mms:////concert"), Hresult::INVALID_NAME, "no valid host (empty host); write http://server"),
            (Some("http://"), Hresult::INVALID_NAME, "host"),
            (Some("http://::1:8080/"), Hresult::INVALID_NAME, "[::1]"),
            (Some("http://a:99999/"), Hresult::INVALID_PORT, "port"),
            (Some("rtsp://a/p"), Hresult::INVALID_SCHEME, "rtsp"),
        ] {
            let bad = parse(text).unwrap_err();
            assert_eq!(bad.hresult(), hresult, "{text:?}");
            assert!(bad.to_string().contains(word), "{bad}");
        }
    }

    #[test]
    fn credentials_are_never_shown() {
        assert_eq!(redacted("http://bob:secret@a/p").as_deref(), Some("http://a/p"));
        assert_eq!(redacted("bob:secret"), None);
    }

    #[test]
    fn credentials_are_removed_from_the_location() {
        for (text, location, user, password) in [
            ("mms://bob:se%40cret@a/p;x", "http://a/p;x", Some("bob"), Some("se@cret")),
            ("http:D%5Cbob@a/", "http://a/", Some("D\\bob"), None),
            ("http://D\\bob:hush@a:80/p;x", "http://a/p;x", Some("D\\bob"), Some("hush")),
            ("http://:hush@a/", "http://a/", None, Some("hush")),
            ("mms://a/p;x#y", "mms://a/p;x#y", None, None),
            ("bob:secret", "bob:secret", None, None),
        ] {
            let Parts { location: bare, login, .. } = split_credentials(text);
            assert_eq!((bare.as_str(), login.user.as_deref()), (location, user), "{text}");
            assert_eq!(login.password.as_ref().map(Secret::reveal), password, "{text}");
        }
    }
}
