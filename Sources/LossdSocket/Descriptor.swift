import Glibc

/// A file descriptor with one owner, closed with it.
public struct Descriptor: ~Copyable, Sendable {
  /// The number, lent: valid while this value lives.
  public let raw: Int32

  /// Takes over an open descriptor.
  public init(adopting raw: Int32) {
    precondition(raw >= 0)
    self.raw = raw
  }

  deinit { _ = Glibc.close(raw) }

  /// Closes it now.
  public consuming func close() {
    // Consuming ends the value's life; deinit does the rest. EINTR is not retried: on Linux the
    // descriptor is gone whatever close says.
  }

  /// Gives the number to a new owner, who has to close it.
  public consuming func take() -> Int32 {
    let raw = raw
    discard self
    return raw
  }

  /// A new socket, close-on-exec.
  static func socket(
    _ family: Int32, nonBlocking: Bool = false, for operation: @autoclosure () -> String
  ) throws(SocketError) -> Descriptor {
    var type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    if nonBlocking { type |= Int32(SOCK_NONBLOCK.rawValue) }
    let raw = Glibc.socket(family, type, 0)
    if raw < 0 { throw SocketError(operation(), errno: Glibc.errno) }
    return Descriptor(adopting: raw)
  }

  /// Two connected Unix stream sockets, close-on-exec: for tests and for talking to child
  /// processes.
  public static func pair(nonBlocking: Bool = false) throws(SocketError) -> DescriptorPair {
    var type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    if nonBlocking { type |= Int32(SOCK_NONBLOCK.rawValue) }
    var raw: (Int32, Int32) = (-1, -1)
    let result = withUnsafeMutablePointer(to: &raw) {
      $0.withMemoryRebound(to: Int32.self, capacity: 2) { socketpair(AF_UNIX, type, 0, $0) }
    }
    if result != 0 { throw SocketError("socketpair", errno: Glibc.errno) }
    return DescriptorPair(
      first: Descriptor(adopting: raw.0), second: Descriptor(adopting: raw.1))
  }
}

/// What `Descriptor.pair` makes.
public struct DescriptorPair: ~Copyable, Sendable {
  public let first: Descriptor
  public let second: Descriptor

  init(first: consuming Descriptor, second: consuming Descriptor) {
    self.first = first
    self.second = second
  }

  /// Both numbers; the caller has to close them.
  public consuming func take() -> (first: Int32, second: Int32) {
    (first.take(), second.take())
  }
}
