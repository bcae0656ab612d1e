//! The servers and proxies that a push has passed (`Via`, RFC 9110, 7.6.3).
//!
//! Each publishing point that forwards a push adds its own unique name. A publishing point that finds its own name in
//! an incoming push would receive its own output.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue, VIA};

/// Maximum number of servers and proxies that a push may pass; more indicate a configuration error.
pub const MAX_HOPS: usize = 16;
/// Maximum total size in bytes, so that the next request's head stays small.
const MAX_BYTES: usize = 2048;

/// The servers and proxies that a push has passed, the first one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Via(Arc<Vec<String>>);

impl Via {
    /// Parses the Via headers of a request or response; comments are dropped.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut hops = Vec::new();
        for line in headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok()) {
            // A comment may contain a comma, so comments are removed before the list is split.
            let text = without_comments(line);
            let entries = text.split(',').map(|entry| entry.split_whitespace().collect::<Vec<_>>().join(" "));
            hops.extend(entries.filter(|entry| !entry.is_empty()));
        }
        Self(Arc::new(hops))
    }

    /// Returns the list with the publishing point named `pseudonym` added.
    #[must_use]
    pub fn with_hop(&self, pseudonym: &str) -> Self {
        Self(Arc::new(self.0.iter().cloned().chain([format!("1.1 {pseudonym}")]).collect()))
    }

    /// Returns whether the list contains the publishing point named `pseudonym`.
    pub fn contains(&self, pseudonym: &str) -> bool {
        self.0.iter().any(|hop| hop.split(' ').any(|word| word == pseudonym))
    }

    /// Returns the header's value; `None` if the list is empty.
    pub fn to_value(&self) -> Option<HeaderValue> {
        if self.0.is_empty() { None } else { HeaderValue::from_str(&self.0.join(", ")).ok() }
    }

    /// Returns why the publishing point named `pseudonym` must reject a push with this list, and the remedy. A new
    /// publishing point has no name yet. `None` accepts the push.
    pub fn refusal(&self, pseudonym: Option<&str>) -> Option<String> {
        if pseudonym.is_some_and(|pseudonym| self.contains(pseudonym)) {
            let text = "relay loop: this push has already passed this publishing point. Remove one `forward` entry from \
                        the loop of publishing points";
            Some(text.to_owned())
        } else if self.0.len() > MAX_HOPS || self.0.iter().map(String::len).sum::<usize>() > MAX_BYTES {
            Some(format!(
                "too many relays: this push has passed {} servers and proxies. Check that the relays do not form a \
                 loop, and forward to this server over fewer servers",
                self.0.len()
            ))
        } else {
            None
        }
    }
}

/// Removes comments, which are in parentheses and may be nested and escaped.
fn without_comments(line: &str) -> String {
    let mut depth = 0_usize;
    let mut escaped = false;
    line.chars()
        .filter(|letter| {
            let inside = depth > 0;
            match letter {
                _ if escaped => escaped = false,
                '\\' if inside => escaped = true,
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => return !inside,
            }
            false
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(lines: &[&'static str]) -> Via {
        Via::from_headers(&lines.iter().map(|line| (VIA, HeaderValue::from_static(line))).collect())
    }

    #[test]
    fn entries_of_proxies_are_kept_without_their_comments() {
        let read = via(&["1.1 abc, 1.0 fred (a, \\) b (c) 1.1 me)", "HTTP/1.1  p.example:80 (nginx),,", "1.1 def"]);
        assert_eq!(read.to_value().unwrap(), "1.1 abc, 1.0 fred, HTTP/1.1 p.example:80, 1.1 def");
        for (name, there) in [("abc", true), ("def", true), ("me", false), ("ab", false), ("p.example", false)] {
            assert_eq!(read.contains(name), there, "{name}");
        }
        assert_eq!(via(&[]).to_value(), None);
    }

    #[test]
    fn a_loop_or_too_many_hops_are_rejected() {
        let mut way = via(&["1.1 proxy (Apache)"]).with_hop("one");
        assert_eq!(way.refusal(Some("other")), None);
        assert!(way.refusal(Some("one")).unwrap().contains("Remove one `forward` entry"));
        for hop in 2..MAX_HOPS {
            way = way.with_hop(&format!("p{hop}"));
        }
        assert_eq!(way.refusal(Some("other")), None);
        assert!(way.with_hop("last").refusal(Some("other")).unwrap().contains("17 servers"));
        let long = Via(Arc::new(vec!["1.1 ".to_owned() + &"x".repeat(MAX_BYTES)]));
        assert!(long.refusal(None).is_some());
    }

    /// A publishing point must be able to parse its own entry in order to detect a loop.
    #[test]
    fn a_written_value_parses_to_the_same_list() {
        let way = via(&["1.0 a"]).with_hop("b").with_hop("c");
        let headers = HeaderMap::from_iter([(VIA, way.to_value().unwrap())]);
        assert_eq!(Via::from_headers(&headers), way);
    }
}
