//! Which way a push has come (RFC 9110, 7.6.3): servers that pass it on, and proxies between them.
//!
//! Each publishing point that pushes on adds a name of its own that nobody else has. One that finds
//! its own name in a push to it would be fed by itself.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue, VIA};

/// Servers and proxies that a push may have come through; a tree of more is none that anybody meant.
pub const MAX_HOPS: usize = 16;
/// Bytes of all of them, so that the next request's head stays small.
const MAX_BYTES: usize = 2048;

/// Servers and proxies that a push has come through, the first one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Via(Arc<Vec<String>>);

impl Via {
    /// Reads a request's or a response's Via lines; comments are dropped, whoever wrote them.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut hops = Vec::new();
        for line in headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok()) {
            let text = without_comments(line);
            let entries = text.split(',').map(|entry| entry.split_whitespace().collect::<Vec<_>>().join(" "));
            hops.extend(entries.filter(|entry| !entry.is_empty()));
        }
        Self(Arc::new(hops))
    }

    /// The same way, and one step more: through the publishing point that is called `pseudonym`.
    #[must_use]
    pub fn through(&self, pseudonym: &str) -> Self {
        Self(Arc::new(self.0.iter().cloned().chain([format!("1.1 {pseudonym}")]).collect()))
    }

    /// Whether it leads through the publishing point that is called `pseudonym`.
    pub fn leads_through(&self, pseudonym: &str) -> bool {
        self.0.iter().any(|hop| hop.split(' ').any(|word| word == pseudonym))
    }

    /// The header's value; `None` where there is nothing to say.
    pub fn to_value(&self) -> Option<HeaderValue> {
        if self.0.is_empty() { None } else { HeaderValue::from_str(&self.0.join(", ")).ok() }
    }

    /// Why a push that came this way is not taken by the publishing point that is called `pseudonym`, or by a new
    /// one, which has no such name yet: with the remedy. `None` admits it.
    pub fn refusal(&self, pseudonym: Option<&str>) -> Option<String> {
        if pseudonym.is_some_and(|pseudonym| self.leads_through(pseudonym)) {
            let text = "this push comes from this publishing point itself, by way of a relay: take one `forward` out of \
                        the circle";
            Some(text.to_owned())
        } else if self.0.len() > MAX_HOPS || self.0.iter().map(String::len).sum::<usize>() > MAX_BYTES {
            Some(format!(
                "this push has come through {} servers and proxies, which is too many: see that relays form no circle, \
                 and let `forward` lead to this server on a shorter way",
                self.0.len()
            ))
        } else {
            None
        }
    }
}

/// A comment is in parentheses, which may be nested and escaped.
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
    fn lines_of_proxies_between_are_kept_and_their_comments_are_not() {
        let read = via(&["1.1 abc, 1.0 fred (a, \\) b (c) 1.1 me)", "HTTP/1.1  p.example:80 (nginx),,", "1.1 def"]);
        assert_eq!(read.to_value().unwrap(), "1.1 abc, 1.0 fred, HTTP/1.1 p.example:80, 1.1 def");
        for (name, there) in [("abc", true), ("def", true), ("me", false), ("ab", false), ("p.example", false)] {
            assert_eq!(read.leads_through(name), there, "{name}");
        }
        assert_eq!(via(&[]).to_value(), None);
    }

    #[test]
    fn a_way_through_oneself_or_without_end_is_refused() {
        let mut way = via(&["1.1 proxy (Apache)"]).through("one");
        assert_eq!(way.refusal(Some("other")), None);
        assert!(way.refusal(Some("one")).unwrap().contains("take one `forward` out of the circle"));
        for hop in 2..MAX_HOPS {
            way = way.through(&format!("p{hop}"));
        }
        assert_eq!(way.refusal(Some("other")), None);
        assert!(way.through("last").refusal(Some("other")).unwrap().contains("17 servers"));
        let long = Via(Arc::new(vec!["1.1 ".to_owned() + &"x".repeat(MAX_BYTES)]));
        assert!(long.refusal(None).is_some());
    }

    /// What a point is refused for it must be able to read back.
    #[test]
    fn what_is_written_is_read() {
        let way = via(&["1.0 a"]).through("b").through("c");
        let headers = HeaderMap::from_iter([(VIA, way.to_value().unwrap())]);
        assert_eq!(Via::from_headers(&headers), way);
    }
}
