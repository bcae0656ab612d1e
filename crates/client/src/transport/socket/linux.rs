//! The implementation for Linux: finds the socket by its addresses among the process's descriptors, and duplicates it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::libc;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Telemetry;

/// Number of unsent bytes above which the kernel makes the library wait: enough for one wake-up of the I/O thread, and
/// little enough that a stall is detected early and a reconnect sends little again.
const NOT_SENT_LOW_WATER: u32 = 128 * 1024;

/// How often the kernel is queried for the acknowledgement of the last bytes, because it sends no notification.
const ACKNOWLEDGEMENT_INTERVAL: Duration = Duration::from_millis(5);

/// A duplicate of a connection's descriptor. The connection is closed only when this is dropped too.
pub(in crate::transport) struct Socket {
    fd: OwnedFd,
    /// Identifies the socket, which several descriptors may refer to.
    inode: u64,
}

impl Drop for Socket {
    fn drop(&mut self) {
        CLAIMED_INODES.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.inode);
    }
}

/// The inodes of the sockets that were found. No socket is claimed twice or examined again; with hundreds of
/// connections, that would dominate the cost of connecting.
static CLAIMED_INODES: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

impl Socket {
    /// Finds the socket that is connected from `local` to one of `peers`.
    pub(in crate::transport) fn find_by_local_addr(local: SocketAddr, peers: &[SocketAddr]) -> Option<Self> {
        candidates(peers).find(|found| found.local == local).and_then(Self::claim)
    }

    /// Finds the only unclaimed socket that is connected to one of `peers`; `None` if there are several.
    pub(in crate::transport) fn find_unclaimed(peers: &[SocketAddr]) -> Option<Self> {
        let mut new = candidates(peers);
        let first = new.next()?;
        // The listing may also contain the new duplicate of the first socket.
        new.all(|other| other.inode == first.inode).then_some(first).and_then(Self::claim)
    }

    /// Takes a socket for one connection, so that no other connection finds it.
    fn claim(found: Candidate) -> Option<Self> {
        if !CLAIMED_INODES.lock().unwrap_or_else(PoisonError::into_inner).insert(found.inode) {
            return None;
        }
        let socket = Self { fd: found.fd, inode: found.inode };
        // If the option cannot be set, only latency under load is worse.
        let _ = SockRef::from(&socket.fd).set_tcp_notsent_lowat(NOT_SENT_LOW_WATER);
        Some(socket)
    }

    /// Sets the Differentiated Services code point of packets sent from now on.
    pub(in crate::transport) fn set_dscp(&self, dscp: u8) {
        // The lower two bits are for ECN and are set by the kernel.
        let class = u32::from(dscp) << 2;
        let socket = SockRef::from(&self.fd);
        // One of the calls fails because the socket has the other address family. Other failures do not matter either,
        // because networks may ignore or change the mark.
        let _ = socket.set_tos_v4(class);
        let _ = socket.set_tclass_v6(class);
    }

    /// Shuts down the sending side and reads until the peer has closed too, or `grace` is over. Then waits until the
    /// peer has acknowledged everything that was sent, no later than `by`, and returns whether it has.
    ///
    /// Closing with unread input sends a reset, which destroys data that the peer has received and not read yet.
    pub(in crate::transport) async fn finish(self, grace: Duration, by: Instant) -> bool {
        // The library has done this already, unless the response came before the body's end.
        let _ = SockRef::from(&self.fd).shutdown(Shutdown::Write);
        if let Ok(stream) = self.fd.try_clone().and_then(|fd| TcpStream::from_std(fd.into())) {
            let read_until = (Instant::now() + grace).min(by);
            // Whether the peer has closed in time does not matter here.
            let _ = tokio::time::timeout_at(read_until, read_to_end(&stream)).await;
        }
        while !self.is_all_acknowledged() {
            if Instant::now() >= by || self.is_lost() {
                return false;
            }
            tokio::time::sleep(ACKNOWLEDGEMENT_INTERVAL).await;
        }
        true
    }

    /// Whether the peer has acknowledged everything that was sent.
    fn is_all_acknowledged(&self) -> bool {
        self.telemetry().is_some_and(|telemetry| telemetry.outstanding == 0)
    }

    /// Whether the connection is lost, so that no further acknowledgement can arrive.
    fn is_lost(&self) -> bool {
        self.telemetry().is_none_or(|telemetry| telemetry.is_closed)
    }

    /// Queries the kernel.
    pub(in crate::transport) fn telemetry(&self) -> Option<Telemetry> {
        tcp_info(self.fd.as_raw_fd())
    }
}

/// Reads and discards input until it ends.
async fn read_to_end(stream: &TcpStream) {
    let mut input = [0; 4096];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut input) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// A connection of this process that is a candidate for the one searched.
struct Candidate {
    fd: OwnedFd,
    inode: u64,
    local: SocketAddr,
}

/// Returns the process's unclaimed connections to one of `peers`.
fn candidates(peers: &[SocketAddr]) -> impl Iterator<Item = Candidate> {
    let descriptors = fs::read_dir("/proc/self/fd").ok();
    // A copy, because the lock must not be held while the caller takes candidates one by one.
    let known = CLAIMED_INODES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let sockets = descriptors.into_iter().flatten().filter_map(|entry| {
        let fd: RawFd = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        let inode: u64 = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((fd, inode))
    });
    sockets.filter(move |(_, inode)| !known.contains(inode)).filter_map(move |(fd, inode)| {
        let fd = duplicate(fd)?;
        let socket = SockRef::from(&fd);
        let local = socket.local_addr().ok()?.as_socket()?;
        let peer = socket.peer_addr().ok()?.as_socket()?;
        peers.contains(&peer).then_some(Candidate { fd, inode, local })
    })
}

/// Duplicates a descriptor whose owner may close it at any time, or have replaced it.
fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    #[expect(unsafe_code, reason = "safe bindings duplicate only descriptors known to be open")]
    // SAFETY: the call takes only numbers, and returns an error for an invalid descriptor. The descriptor that it
    // returns is new and has no other owner.
    unsafe {
        let duplicate = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0);
        (duplicate >= 0).then(|| OwnedFd::from_raw_fd(duplicate))
    }
}

/// Number of bytes of the kernel's `struct tcp_info` that are read; the C library's declaration ends earlier.
const TCP_INFO_LEN: usize = 216;
/// TCP_CLOSE: the connection was closed by both sides or reset.
const TCP_CLOSE: u8 = 7;

/// Asks the kernel about the connection with this descriptor; `None` if it is not one of TCP.
pub fn tcp_info(fd: RawFd) -> Option<Telemetry> {
    let mut info = [0_u8; TCP_INFO_LEN];
    let mut len = libc::socklen_t::try_from(info.len()).ok()?;
    #[expect(unsafe_code, reason = "no safe binding offers TCP_INFO")]
    // SAFETY: the kernel refuses a number that is not an open socket of TCP, and writes at most `len` bytes into
    // `info`.
    let result =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len) };
    if result != 0 || usize::try_from(len).ok()? < TCP_INFO_LEN {
        return None;
    }
    let u32_at = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
    // Offsets in `struct tcp_info` (linux/tcp.h): tcpi_rtt 68, tcpi_bytes_acked 120, tcpi_notsent_bytes 144,
    // tcpi_bytes_sent 200, tcpi_bytes_retrans 208.
    let (acknowledged, unsent) = (u64_at(120)?, u32_at(144)?);
    // Counts each byte of data once. The acknowledged bytes also include one for the SYN and one for a FIN.
    let sent = u64_at(200)?.saturating_sub(u64_at(208)?);
    let outstanding = u64::from(unsent) + sent.saturating_sub(acknowledged.saturating_sub(1));
    Some(Telemetry { rtt: u32_at(68)?, unsent, acknowledged, outstanding, is_closed: info.first() == Some(&TCP_CLOSE) })
}
