//! Socket addresses as C has them, to and from those of the standard library.
//!
//! Only IPv4 and IPv6; anything else is none.

use std::{
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// An address that C code can read.
pub(super) enum SocketAddress {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl SocketAddress {
    pub(super) fn new(address: SocketAddr) -> Self {
        let port = address.port().to_be();
        match address.ip() {
            IpAddr::V4(ip) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: port,
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(ip.octets()),
                },
                sin_zero: [0; 8],
            }),
            IpAddr::V6(ip) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: port,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
                sin6_scope_id: 0,
            }),
        }
    }

    /// For reading by C, as long as this value lives.
    pub(super) fn raw(&self) -> *const libc::sockaddr {
        match self {
            Self::V4(address) => (&raw const *address).cast(),
            Self::V6(address) => (&raw const *address).cast(),
        }
    }

    pub(super) fn len(&self) -> libc::socklen_t {
        let len = match self {
            Self::V4(address) => mem::size_of_val(address),
            Self::V6(address) => mem::size_of_val(address),
        };
        len as libc::socklen_t
    }

    /// Reads an address of C.
    ///
    /// # Safety
    /// `raw` points at a whole `sockaddr_storage`.
    pub(super) unsafe fn from_raw(raw: *const libc::sockaddr_storage) -> Option<SocketAddr> {
        // SAFETY: a storage is large enough for each family, and is read as the one that it names.
        unsafe {
            match libc::c_int::from((*raw).ss_family) {
                libc::AF_INET => {
                    let address = raw.cast::<libc::sockaddr_in>().read_unaligned();
                    let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
                    Some(SocketAddr::new(ip.into(), u16::from_be(address.sin_port)))
                }
                libc::AF_INET6 => {
                    let address = raw.cast::<libc::sockaddr_in6>().read_unaligned();
                    let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                    Some(SocketAddr::new(ip.into(), u16::from_be(address.sin6_port)))
                }
                _ => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["127.0.0.1:80", "10.1.2.3:65535", "[::1]:9", "[fe80::7]:443"] {
            let address: SocketAddr = text.parse().expect("a fine address");
            let raw = SocketAddress::new(address);
            // SAFETY: all zeroes is a valid storage; the copied bytes are those of an address.
            let back = unsafe {
                let mut storage: libc::sockaddr_storage = mem::zeroed();
                let to = (&raw mut storage).cast::<u8>();
                std::ptr::copy_nonoverlapping(raw.raw().cast(), to, raw.len() as usize);
                SocketAddress::from_raw(&raw const storage)
            };
            assert_eq!(back, Some(address));
        }
    }
}
