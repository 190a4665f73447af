import CLinux
import Glibc
import Synchronization

/// A bound, listening, non-blocking socket. Closing it removes its socket file if that is still its
/// own. Any thread.
public final class ListeningSocket: Sendable {
  /// Connections that the kernel completes ahead of accept; it takes net.core.somaxconn if smaller.
  public static let backlogMax: Int32 = 4096

  /// The descriptor, lent: valid until `close`.
  public let fd: Int32
  /// As asked for, with the port that the kernel chose where 0 was.
  public let address: Address
  private let file: SocketFile?
  private let isClosed = Atomic(false)

  private init(_ descriptor: consuming Descriptor, _ address: Address, _ file: SocketFile? = nil) {
    fd = descriptor.take()
    self.address = address
    self.file = file
  }

  deinit { close() }

  /// Binds and listens.
  ///
  /// A Unix socket that a dead daemon left is replaced; a live one's is an error. `mode` is the
  /// socket file's permission bits. Of a TCP host with several addresses the first is used.
  public convenience init(binding address: Address, mode: UInt32 = 0o600) throws(SocketError) {
    switch address {
    case .unix(let path): try self.init(path: path, mode: mode)
    case .tcp(let host, let port): try self.init(host: host, port: port)
    }
  }

  /// Takes over a socket that someone else bound (systemd's socket activation); its file stays.
  public convenience init(adopting descriptor: consuming Descriptor) throws(SocketError) {
    let operation = "take over descriptor \(descriptor.raw)"
    var isListening: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    if getsockopt(descriptor.raw, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &length) != 0 {
      throw SocketError(operation, errno: errno)
    }
    var type: Int32 = 0
    _ = getsockopt(descriptor.raw, SOL_SOCKET, SO_TYPE, &type, &length)
    guard isListening == 1, type == Int32(SOCK_STREAM.rawValue),
      let address = localAddress(descriptor.raw)
    else { throw SocketError(operation, text: "it is not a listening stream socket") }
    try descriptor.setNonBlocking(true)
    try descriptor.setCloseOnExec()
    if case .tcp = address { setNoDelay(descriptor.raw) } else { refuseDescriptors(descriptor.raw) }
    self.init(descriptor, address)
  }

  private convenience init(path: String, mode: UInt32) throws(SocketError) {
    let operation = "listen on unix:\(path)"
    let target: SocketAddress
    do { target = try SocketAddress(path: path) } catch {
      throw SocketError(operation, text: error.text)
    }
    let descriptor = try Descriptor.socket(AF_UNIX, nonBlocking: true, for: operation)
    refuseDescriptors(descriptor.raw)
    // The file gets the socket's own mode less the umask: it is never more open than asked for.
    if fchmod(descriptor.raw, mode) != 0 { throw SocketError(operation, errno: errno) }
    let lock = try FolderLock(ofFolderOf: path, operation)
    try SocketFile.makeRoom(at: path, operation)
    if target.with({ bind(descriptor.raw, $0, $1) }) != 0 {
      throw SocketError(operation, errno: errno)
    }
    guard let file = SocketFile(at: path) else { throw SocketError(operation, errno: errno) }
    if chmod(path, mode) != 0 || listen(descriptor.raw, ListeningSocket.backlogMax) != 0 {
      let failure = errno
      file.remove()
      throw SocketError(operation, errno: failure)
    }
    _ = consume lock
    self.init(descriptor, .unix(path: path), file)
  }

  private convenience init(host: String, port: UInt16) throws(SocketError) {
    let operation = "listen on \(Address.tcp(host: host, port: port))"
    let targets = try SocketAddress.resolve(host: host, port: port, passive: true, for: operation)
    guard let target = targets.first else {
      throw SocketError(operation, text: "\(host) has no address")
    }
    let descriptor = try Descriptor.socket(target.family, nonBlocking: true, for: operation)
    // A restarted daemon need not wait until the last one's connections have left TIME_WAIT.
    setOption(descriptor.raw, SOL_SOCKET, SO_REUSEADDR, 1)
    // Accepted sockets inherit both.
    setNoDelay(descriptor.raw)
    setOption(descriptor.raw, SOL_SOCKET, SO_KEEPALIVE, 1)
    if target.with({ bind(descriptor.raw, $0, $1) }) != 0
      || listen(descriptor.raw, ListeningSocket.backlogMax) != 0
    {
      throw SocketError(operation, errno: errno)
    }
    let bound = localAddress(descriptor.raw) ?? .tcp(host: host, port: port)
    self.init(descriptor, bound)
  }

  /// Stops listening and removes the socket file. The second time, nothing.
  public func close() {
    if isClosed.exchange(true, ordering: .acquiringAndReleasing) { return }
    // The file first: as long as it stands, someone may find it and connect.
    file?.remove()
    _ = Glibc.close(fd)
  }

  /// The next waiting connection, non-blocking and close-on-exec.
  public func accept() -> AcceptResult {
    while true {
      let raw = clinux_accept(fd)
      if raw >= 0 { return .accepted(Descriptor(adopting: raw)) }
      switch errno {
      case EINTR: continue
      case EAGAIN: return .wouldBlock
      case EMFILE, ENFILE, ENOBUFS, ENOMEM: return .exhausted(errno)
      // accept(2): errors of the new connection itself, which is gone; the next may be sound.
      case ECONNABORTED, EPERM, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH,
        EOPNOTSUPP, ENETUNREACH, ETIMEDOUT:
        return .aborted(errno)
      default: return .failed(errno)
      }
    }
  }
}
