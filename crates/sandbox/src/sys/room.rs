//! How much the kernel holds for sockets and pipes: what programs of class `det` have, and what fits into it here.

use std::io;

use rustix::net::sockopt::{set_socket_send_buffer_size, socket_send_buffer_size};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

/// Bytes that a socket is given for what it has sent, half of what it then says: the usual setting of kernels.
pub(crate) const SOCKET: usize = 106_496;
/// Bytes of a pipe.
pub(crate) const PIPE: usize = 65_536;

/// Lengths of messages that a kernel has different room for.
const LENGTHS: [usize; 4] = [1, 200, 4096, 65_536];

/// How many messages of some lengths fit into sockets of that size, by kind of socket and length.
pub(crate) fn messages() -> io::Result<Vec<usize>> {
    let mut counts = Vec::new();
    for kind in [SocketType::STREAM, SocketType::DGRAM, SocketType::SEQPACKET] {
        for length in LENGTHS {
            let (from, _to) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
            set_socket_send_buffer_size(&from, SOCKET)?;
            counts.push(socket_send_buffer_size(&from)?);
            let message = vec![0; length];
            let mut bytes = 0;
            while let Ok(sent) = send(&from, &message, SendFlags::DONTWAIT) {
                bytes += sent;
            }
            counts.push(bytes);
        }
    }
    Ok(counts)
}
