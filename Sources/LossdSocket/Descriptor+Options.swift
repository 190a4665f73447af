import CLinux
import Glibc

extension Descriptor {
  /// Switches O_NONBLOCK.
  public borrowing func setNonBlocking(_ on: Bool) throws(SocketError) {
    let flags = fcntl(raw, F_GETFL)
    if flags < 0 || fcntl(raw, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0 {
      throw SocketError("fcntl", errno: errno)
    }
  }

  /// Sets FD_CLOEXEC: for descriptors handed over by systemd.
  public borrowing func setCloseOnExec() throws(SocketError) {
    if fcntl(raw, F_SETFD, FD_CLOEXEC) < 0 { throw SocketError("fcntl", errno: errno) }
  }
}

/// No wait for more data before a small segment is sent: answers are whole when they are written.
func setNoDelay(_ fd: Int32) {
  setOption(fd, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
}

/// An option whose failure changes speed at most, so that it is not an error.
func setOption(_ fd: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
  var value = value
  _ = setsockopt(fd, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
}

/// AF_UNIX, AF_INET, AF_INET6, or nil for what is no socket.
public func socketFamily(_ fd: Int32) -> Int32? {
  var family: Int32 = 0
  var length = socklen_t(MemoryLayout<Int32>.size)
  if getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) != 0 { return nil }
  return family
}

/// Peers cannot send descriptors to this listening socket's connections, where the kernel can see
/// to that (Linux 6.16). The environment variable LOSSD_TEST_PASSRIGHTS=1 leaves them on: for tests
/// of what is done elsewhere.
func refuseDescriptors(_ fd: Int32) {
  if let value = getenv("LOSSD_TEST_PASSRIGHTS"), strcmp(value, "1") == 0 { return }
  _ = clinux_refuse_descriptors(fd)
}

/// Whether peers may have sent descriptors to this accepted Unix socket: it was connected to before
/// its listener refused them, or the kernel cannot refuse them. They may take for ever to be
/// closed, with the socket or by themselves.
public func mayHoldDescriptors(_ fd: Int32) -> Bool { clinux_may_hold_descriptors(fd) != 0 }
