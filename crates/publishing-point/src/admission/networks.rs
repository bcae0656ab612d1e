//! Lists of IP networks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

/// A list of IPv4 and IPv6 networks.
///
/// An IPv4-mapped address (`::ffff:192.0.2.1`), as on connections to an IPv6 socket, counts as that IPv4 address, and
/// so do networks of such addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Networks(Vec<IpNet>);

/// Why a text is not a valid network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor an address with a prefix length.
    #[error(
        "`{0}` is not a network: write an address, such as 192.0.2.7, or one with its prefix, such as 2001:db8::/32"
    )]
    Form(String),
    /// The address has bits set behind its prefix, which is probably a mistake that would admit or exclude too many
    /// clients.
    #[error(
        "`{given}` has bits set after its prefix: write {network} for the network, or {address} for the single address"
    )]
    HostBits {
        /// The text.
        given: String,
        /// The network that contains the address.
        network: IpNet,
        /// The address without the prefix.
        address: IpAddr,
    },
}

impl Networks {
    /// Returns whether the address is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        // Networks are stored in canonical form (see [`canonical`]), so addresses must be compared in that form.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns whether the address is in these networks; `None` contains all addresses.
    pub(crate) fn allow(networks: Option<&Self>, address: IpAddr) -> bool {
        networks.is_none_or(|networks| networks.contains(address))
    }

    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Parses a list of networks.
    ///
    /// # Errors
    /// Of the first text that is not a valid network.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, NetworkError> {
        texts.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the networks of the loopback addresses.
    pub fn loopback() -> Self {
        let (v4, v6) =
            (IpNet::new(IpAddr::from([127, 0, 0, 0]), 8), IpNet::new(std::net::Ipv6Addr::LOCALHOST.into(), 128));
        Self(v4.into_iter().chain(v6).collect())
    }
}

impl TryFrom<Vec<String>> for Networks {
    type Error = NetworkError;

    fn try_from(texts: Vec<String>) -> Result<Self, NetworkError> {
        Self::parse(texts.iter().map(String::as_str))
    }
}

/// Parses a list separated by commas.
impl FromStr for Networks {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        Self::parse(text.split(',').map(str::trim).filter(|text| !text.is_empty()))
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            write!(f, "{}{network}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Parses one network, or an address as the network that contains only this address.
fn network(text: &str) -> Result<IpNet, NetworkError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| NetworkError::Form(text.to_owned()))?;
    if network.trunc() != network {
        return Err(NetworkError::HostBits {
            given: text.to_owned(),
            network: network.trunc(),
            address: network.addr(),
        });
    }
    Ok(canonical(network))
}

/// Converts a network of IPv4-mapped addresses to an IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    /// Bits before the IPv4 address.
    const MAPPED: u8 = 96;
    let mapped = match network {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPED)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(address, prefix)| IpNet::new(address.into(), prefix).ok()).unwrap_or(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Networks {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_in_networks_of_either_family() {
        let list = networks("192.0.2.0/24, 2001:db8::/32,198.51.100.7");
        for (address, inside) in [
            ("192.0.2.255", true),
            ("192.0.3.0", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::ffff:192.0.2.1", true),
            ("::ffff:192.0.3.1", false),
            // IPv4-compatible addresses are not IPv4-mapped.
            ("::192.0.2.1", false),
        ] {
            assert_eq!(list.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
        assert!(networks("0.0.0.0/0").contains("::ffff:8.8.8.8".parse().unwrap()));
        assert!(!networks("::/0").contains("::ffff:8.8.8.8".parse().unwrap()), "IPv4 is not part of IPv6");
        assert!(
            Networks::loopback().contains("::1".parse().unwrap())
                && Networks::loopback().contains([127, 7, 0, 1].into())
        );
    }

    #[test]
    fn mapped_networks_are_ipv4_networks() {
        assert_eq!(networks("::ffff:192.0.2.0/120"), networks("192.0.2.0/24"));
        assert_eq!(networks("::ffff:192.0.2.1"), networks("192.0.2.1/32"));
        assert!(networks("::ffff:0:0/96").contains([8, 8, 8, 8].into()));
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, says) in [
            ("10.0.0.0/33", "is not a network: write"),
            ("localhost", "is not a network: write"),
            ("10.1.2.3/8", "write 10.0.0.0/8 for the network, or 10.1.2.3 for the single address"),
        ] {
            let error = text.parse::<Networks>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
