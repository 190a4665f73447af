import Glibc

extension Descriptor {
  /// A blocking socket connected to `address`. Waits for the connection; resolves a host's name and
  /// tries each of its addresses in turn.
  /// - Parameter milliseconds: how long each address is waited for; 0: as long as the system does.
  ///   A Unix socket waits without end for a server that accepts no more.
  public static func connect(
    to address: Address, within milliseconds: Int = 0
  ) throws(SocketError) -> Descriptor {
    let operation = "connect to \(address)"
    switch address {
    case .unix(let path):
      let target: SocketAddress
      do { target = try SocketAddress(path: path) } catch {
        throw SocketError(operation, text: error.text)
      }
      return try connect(target, milliseconds, operation)
    case .tcp(let host, let port):
      let targets = try SocketAddress.resolve(
        host: host, port: port, passive: false, for: operation)
      var failure = SocketError(operation, text: "\(host) has no address")
      for target in targets {
        do throws(SocketError) {
          let descriptor = try connect(target, milliseconds, operation)
          setNoDelay(descriptor.raw)
          setOption(descriptor.raw, SOL_SOCKET, SO_KEEPALIVE, 1)
          return descriptor
        } catch {
          failure = error
        }
      }
      throw failure
    }
  }

  private static func connect(
    _ target: SocketAddress, _ milliseconds: Int, _ operation: String
  ) throws(SocketError) -> Descriptor {
    let descriptor = try socket(target.family, for: operation)
    if milliseconds > 0 { setSendTime(descriptor.raw, milliseconds) }
    let result = target.with { Glibc.connect(descriptor.raw, $0, $1) }
    if milliseconds > 0 && result == 0 { setSendTime(descriptor.raw, 0) }
    if result == 0 { return descriptor }
    if milliseconds > 0 && (errno == EAGAIN || errno == EINPROGRESS || errno == EINTR) {
      throw SocketError(operation, errno: ETIMEDOUT)
    }
    // Interrupted by a signal, the connection goes on by itself: wait for its end.
    guard errno == EINTR else { throw SocketError(operation, errno: errno) }
    var poll = pollfd(fd: descriptor.raw, events: Int16(POLLOUT), revents: 0)
    while Glibc.poll(&poll, 1, -1) < 0 && errno == EINTR {}
    var failure: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    _ = getsockopt(descriptor.raw, SOL_SOCKET, SO_ERROR, &failure, &length)
    if failure != 0 { throw SocketError(operation, errno: failure) }
    return descriptor
  }
  /// How long a connection, or what is sent, is waited for: 0 is for ever.
  private static func setSendTime(_ fd: Int32, _ milliseconds: Int) {
    var time = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
  }
}
