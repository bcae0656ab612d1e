//! The status page: files that are part of the program.

/// A file of the page.
pub(super) struct File {
    pub(super) content_type: &'static str,
    pub(super) bytes: &'static [u8],
}

/// The Content-Security-Policy of the page: it may only load from this server.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                                 connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page itself.
pub(super) const PAGE: File =
    File { content_type: "text/html; charset=utf-8", bytes: include_bytes!("page/page.html") };

/// Returns a file of the page by the last part of its path.
pub(super) fn file(name: &str) -> Option<File> {
    let (content_type, bytes): (_, &[u8]) = match name {
        "" => return Some(PAGE),
        "page.js" => ("text/javascript; charset=utf-8", include_bytes!("page/page.js")),
        "plot.js" => ("text/javascript; charset=utf-8", include_bytes!("page/plot.js")),
        "page.css" => ("text/css; charset=utf-8", include_bytes!("page/page.css")),
        "icon.svg" => ("image/svg+xml", include_bytes!("page/icon.svg")),
        _ => return None,
    };
    Some(File { content_type, bytes })
}
