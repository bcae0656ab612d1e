//! The names of publishing points: their form in URLs, equality, and the names reserved for the server.

/// The first path segments that are reserved for the server, in lower case.
const RESERVED: [&str; 4] = ["api", "healthz", "metrics", "status"];

/// Returns the form of a name that identifies the point. Names that differ only in case are the same.
pub(crate) fn key(name: &str) -> String {
    name.trim_start_matches('/').to_lowercase()
}

/// Returns the point's name in a URL path: without the leading `/`, percent-decoded.
pub(crate) fn name_of(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.trim_start_matches('/').as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let decoded = after
            .first_chunk::<2>()
            .filter(|_| first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // An invalid escape sequence is kept as it is, as browsers do.
        bytes.push(decoded.unwrap_or(first));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns whether a point cannot have this name because its URL belongs to the server itself.
pub(crate) fn is_reserved(name: &str) -> bool {
    let first = name.trim_start_matches('/').split('/').next().unwrap_or_default();
    RESERVED.iter().any(|reserved| first.eq_ignore_ascii_case(reserved))
}

/// Returns the error message for a reserved name.
pub(crate) fn reserved(name: &str) -> String {
    format!(
        "no publishing point can be named `{name}`: /api, /healthz, /metrics and /status are reserved for the server; choose another"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_percent_decoded() {
        for (path, name) in
            [("/concert", "concert"), ("/live/gr%C3%B6%c3%9fe", "live/größe"), ("/a%2", "a%2"), ("/%zz", "%zz")]
        {
            assert_eq!(name_of(path), name);
        }
    }

    #[test]
    fn reserved_names() {
        for name in ["api", "API/x", "healthz", "healthz/concert", "/metrics", "Status", "status/x", "//status"] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["", "/", "concert", "apis", "live/api", "state"] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
