//! A range of addresses, as `10.0.0.0/8` or a single address.

use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u32,
}

impl Network {
    /// True when the address lies in it. An IPv4 address that came as an IPv6 one counts as what it is.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let host_bits = 32u32.saturating_sub(self.prefix);
                first.to_bits().checked_shr(host_bits) == address.to_bits().checked_shr(host_bits)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let host_bits = 128u32.saturating_sub(self.prefix);
                first.to_bits().checked_shr(host_bits) == address.to_bits().checked_shr(host_bits)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Network, Self::Err> {
        let refused =
            "not an address or a range of addresses; allowed are such as 10.1.2.3, 10.0.0.0/8 and fd00::/8";
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let first: IpAddr = address.parse().map_err(|_| refused)?;
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits).ok_or(refused)?,
            None => bits,
        };
        Ok(Network { first, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().holds(address.parse().unwrap())
    }

    #[test]
    fn a_network_holds_what_shares_its_first_bits() {
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("10.1.2.3", "::ffff:10.1.2.3"), "the same address in another form");
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe80::1"));
        assert!(holds("::/0", "2001:db8::1") && holds("192.168.1.128/25", "192.168.1.200"));
        for refused in ["", "x", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "10.0.0.0/8/8", "proxy"]
        {
            assert!(refused.parse::<Network>().is_err(), "{refused}");
        }
    }
}
