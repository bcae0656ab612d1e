//! The HRESULTs that a push reports, with their Windows names ([MS-ERREF]).

use std::fmt;

/// A Windows result code; negative as a signed number means failure.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hresult(pub u32);

macro_rules! codes {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Hresult {
            $(#[doc = concat!("`", $text, "`")] pub const $name: Self = Self($value);)*

            /// Returns the symbolic name, for the codes that a push can report.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    OK = 0x0000_0000, "S_OK";
    FALSE = 0x0000_0001, "S_FALSE";
    ABORT = 0x8000_4004, "E_ABORT";
    FAIL = 0x8000_4005, "E_FAIL";
    OUT_OF_MEMORY = 0x8007_000E, "E_OUTOFMEMORY";
    INVALID_ARG = 0x8007_0057, "E_INVALIDARG";
    TLS_FAILED = 0x8009_0326, "SEC_E_ILLEGAL_MESSAGE";
    NOT_TRUSTED = 0x800B_010B, "TRUST_E_FAIL";
    NO_CONNECTION = 0xC00D_0005, "NS_E_NOCONNECTION";
    TIMEOUT = 0xC00D_0013, "NS_E_TIMEOUT";
    NET_READ = 0xC00D_0015, "NS_E_NET_READ";
    FILE_NOT_FOUND = 0xC00D_001A, "NS_E_FILE_NOT_FOUND";
    INVALID_NAME = 0xC00D_001C, "NS_E_INVALID_NAME";
    CONNECTION_FAILURE = 0xC00D_0029, "NS_E_CONNECTION_FAILURE";
    SERVER_NOT_FOUND = 0xC00D_0035, "NS_E_SERVER_NOT_FOUND";
    ASF_PACKET_TOO_LARGE = 0xC00D_07DE, "ASF_E_PACKETCONTENTTOOLARGE";
    ASF_INVALID_HEADER = 0xC00D_07E2, "ASF_E_INVALIDHEADER";
    ASF_NO_HEADER = 0xC00D_07F9, "ASF_E_NOHEADEROBJECT";
    ASF_BAD_DATA_UNIT = 0xC00D_080D, "ASF_E_BADDATAUNIT";
    ASF_HEADER_SIZE = 0xC00D_080E, "ASF_E_HEADERSIZE";
    INVALID_URL = 0xC00D_1329, "NS_E_CURL_INVALIDURL";
    INVALID_SCHEME = 0xC00D_1328, "NS_E_CURL_INVALIDSCHEME";
    INVALID_PORT = 0xC00D_132C, "NS_E_CURL_INVALIDPORT";
    REDIRECT = 0xC00D_1388, "NS_E_REDIRECT";
    INVALID_PUSH_TEMPLATE = 0xC00D_151A, "NS_E_INVALID_PUSH_TEMPLATE";
    PUSH_DUPLICATE = 0xC00D_1520, "NS_E_PUSH_DUPLICATE_PUBLISHING_POINT_NAME";
    REDIRECT_TO_PROXY = 0xC00D_2EE1, "NS_E_REDIRECT_TO_PROXY";
    INTERNAL_SERVER_ERROR = 0xC00D_2EE2, "NS_E_INTERNAL_SERVER_ERROR";
    BAD_REQUEST = 0xC00D_2EE3, "NS_E_BAD_REQUEST";
    ERROR_FROM_PROXY = 0xC00D_2EE4, "NS_E_ERROR_FROM_PROXY";
    PROXY_TIMEOUT = 0xC00D_2EE5, "NS_E_PROXY_TIMEOUT";
    SERVER_UNAVAILABLE = 0xC00D_2EE6, "NS_E_SERVER_UNAVAILABLE";
    REFUSED_BY_SERVER = 0xC00D_2EE7, "NS_E_REFUSED_BY_SERVER";
    INVALID_REDIRECT = 0xC00D_2EEA, "NS_E_INVALID_REDIRECT";
    PROXY_NOT_FOUND = 0xC00D_2EED, "NS_E_PROXY_NOT_FOUND";
    CANNOT_CONNECT_TO_PROXY = 0xC00D_2EEE, "NS_E_CANNOT_CONNECT_TO_PROXY";
    SERVER_DNS_TIMEOUT = 0xC00D_2EEF, "NS_E_SERVER_DNS_TIMEOUT";
    PROXY_DNS_TIMEOUT = 0xC00D_2EF0, "NS_E_PROXY_DNS_TIMEOUT";
    SESSION_NOT_FOUND = 0xC00D_2EF3, "NS_E_SESSION_NOT_FOUND";
    PROXY_ACCESS_DENIED = 0xC00D_2EF6, "NS_E_PROXY_ACCESSDENIED";
    SERVER_ACCESS_DENIED = 0xC00D_2EFB, "NS_E_SERVER_ACCESSDENIED";
    RESOURCE_GONE = 0xC00D_2EFC, "NS_E_RESOURCE_GONE";
    BAD_SYNTAX_IN_RESPONSE = 0xC00D_2EFE, "NS_E_BAD_SYNTAX_IN_SERVER_RESPONSE";
    RESET_CONNECTION = 0xC00D_2F00, "NS_E_RESET_SOCKET_CONNECTION";
    TOO_MANY_HOPS = 0xC00D_2F02, "NS_E_TOO_MANY_HOPS";
    CONNECT_TIMEOUT = 0xC00D_2F06, "NS_E_CONNECT_TIMEOUT";
    PROXY_CONNECT_TIMEOUT = 0xC00D_2F07, "NS_E_PROXY_CONNECT_TIMEOUT";
    PUSH_CANNOT_CONNECT = 0xC00D_2F0B, "NS_E_PUSH_CANNOTCONNECT";
    INCOMPATIBLE_PUSH_SERVER = 0xC00D_2F0C, "NS_E_INCOMPATIBLE_PUSH_SERVER";
}

impl Hresult {
    /// Returns whether the code means a failure (severity bit set).
    pub fn is_failure(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

impl fmt::Display for Hresult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}

impl fmt::Debug for Hresult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_severity() {
        assert_eq!(Hresult::PUSH_CANNOT_CONNECT.to_string(), "NS_E_PUSH_CANNOTCONNECT");
        assert_eq!(Hresult(0xE000_0001).to_string(), "0xe0000001");
        assert!(Hresult::FAIL.is_failure());
        assert!(!Hresult::FALSE.is_failure());
    }
}
