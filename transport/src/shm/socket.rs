//! The system calls of a Unix socket that the standard library lacks: who is there, and a file handed over.
//!
//! Nothing here blocks: every socket is non-blocking, and a full queue is an answer.

use std::{
    io, mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::Path,
    ptr,
};

/// Longest path of a socket, without its closing zero.
pub(super) const PATH_BYTES_MAX: usize = 107;

/// Room for the control message of two descriptors, aligned as the kernel wants it.
type Control = [u64; 4];

/// Connects without waiting; `WouldBlock` if the listener's queue is full.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let path = path.as_os_str().as_bytes();
    if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, owned by nobody else.
    let stream = unsafe { UnixStream::from_raw_fd(fd) };
    // SAFETY: all zeroes is a valid address of this type.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = *from as libc::c_char;
    }
    let len = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is a valid local of the length given.
    if unsafe { libc::connect(fd, (&raw const address).cast(), len) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stream)
}

/// Whether the process at the other end runs as our own user.
pub(super) fn is_ours(stream: &UnixStream) -> bool {
    let mut peer = libc::ucred {
        pid: 0,
        uid: libc::uid_t::MAX,
        gid: 0,
    };
    let mut len = mem::size_of_val(&peer) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes into a local of that size.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    // SAFETY: geteuid has no failure and no pointers.
    got == 0 && peer.uid == unsafe { libc::geteuid() }
}

/// Sends bytes together with a descriptor. The bytes must go out whole: the socket is fresh and they are few.
pub(super) fn send_with_file(stream: &UnixStream, bytes: &[u8], file: RawFd) -> io::Result<()> {
    let mut control: Control = [0; 4];
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let fd_bytes = mem::size_of::<RawFd>() as u32;
    // SAFETY: all zeroes is a valid header; its pointers are set to locals that outlive the call.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: pure arithmetic.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(fd_bytes) } as usize;
    // SAFETY: the control buffer has room for one descriptor (checked at compile time below), so the first
    // message header lies inside it.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(fd_bytes) as usize;
        ptr::write_unaligned(libc::CMSG_DATA(first).cast(), file);
    }
    // SAFETY: the header points at locals only.
    let sent = unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Receives bytes, and the first descriptor if any came with them; further ones are closed.
pub(super) fn receive(
    stream: &UnixStream,
    into: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control: Control = [0; 4];
    let mut part = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: all zeroes is a valid header; its pointers are set to locals that outlive the call.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of::<Control>();
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the kernel writes into the two locals within the lengths given.
    let got = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut header, flags) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    Ok((got, files(&header).into_iter().next()))
}

/// Owns every descriptor that came with a message.
fn files(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut files = Vec::new();
    // SAFETY: the kernel filled the control buffer and its length; the macros stay inside it, and each descriptor
    // in it is new and ours alone.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
                let bytes = message.cmsg_len - libc::CMSG_LEN(0) as usize;
                let first: *const RawFd = libc::CMSG_DATA(message).cast();
                for index in 0..bytes / mem::size_of::<RawFd>() {
                    let fd = ptr::read_unaligned(first.add(index));
                    files.push(OwnedFd::from_raw_fd(fd));
                }
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
    files
}

// A control message is a 16-byte header and its descriptors, padded to eight.
const _: () = assert!(mem::size_of::<Control>() >= mem::size_of::<libc::cmsghdr>() + 8);

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use super::*;

    #[test]
    fn a_file_crosses_with_its_bytes() {
        let (left, right) = UnixStream::pair().expect("a pair");
        let file = File::open("/proc/self/comm").expect("Linux has it");
        send_with_file(&left, b"here", file.as_raw_fd()).expect("room for four bytes");
        let mut bytes = [0; 16];
        let (got, received) = receive(&right, &mut bytes).expect("a message");
        assert_eq!(&bytes[..got], b"here");
        let mut text = String::new();
        let mut received = File::from(received.expect("a descriptor"));
        received.read_to_string(&mut text).expect("a readable file");
        assert!(!text.is_empty());
    }

    #[test]
    fn our_own_process_is_ours() {
        let (left, _right) = UnixStream::pair().expect("a pair");
        assert!(is_ours(&left));
    }

    #[test]
    fn connecting_to_nothing_fails_at_once() {
        assert!(connect(Path::new("/nowhere/at/all")).is_err());
        assert!(connect(Path::new(&"x".repeat(300))).is_err());
    }
}
