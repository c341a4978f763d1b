//! Parses networks of IP addresses.

use std::net::IpAddr;

use ipnet::IpNet;

/// Parses the addresses of proxies: `10.0.0.1` or `10.0.0.0/8`.
///
/// # Errors
///
/// An error message for the user, also for networks that no proxy can be in.
pub fn parse_proxies(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = text
        .parse()
        .map_err(|_| "expected an address or a network, such as 10.0.0.1 or 10.0.0.0/8")?;
    if network.prefix_len() == 0 {
        return Err("this would let every client choose its address".to_owned());
    }
    // Peers are compared by their IPv4 address.
    if network.addr() != network.addr().to_canonical() {
        return Err("write the network with IPv4 addresses".to_owned());
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_parsed() {
        for (text, within, outside) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let network = parse_proxies(text).unwrap();
            let contains = |address: &str| network.contains(&address.parse::<IpAddr>().unwrap());
            assert!(contains(within) && !contains(outside), "{text}");
        }
        for bad in [
            "",
            "10.0.0",
            "10.0.0.1/33",
            "::/129",
            "name",
            "10.0.0.1/",
            "0.0.0.0/0",
        ] {
            assert!(parse_proxies(bad).is_err(), "{bad}");
        }
    }
}
