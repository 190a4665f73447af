import Glibc

/// A socket operation that failed.
public struct SocketError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What was tried, on what: `connect to unix:/run/lossd/lossd.sock`.
  public let operation: String
  /// The system's error number; 0 where the failure is not the system's (a name that does not
  /// resolve, another daemon in the way).
  public let errno: Int32
  /// Why, for people.
  public let text: String

  public init(_ operation: String, errno: Int32) {
    self.operation = operation
    self.errno = errno
    text = errorText(errno)
  }

  public init(_ operation: String, errno: Int32 = 0, text: String) {
    self.operation = operation
    self.errno = errno
    self.text = text
  }

  public var description: String { "\(operation): \(text)" }
}

/// The system's text for an error number: `Connection refused`.
public func errorText(_ number: Int32) -> String {
  // glibc's strerror is thread-safe since 2.32: its buffer is the thread's own.
  guard let text = strerror(number) else { return "error \(number)" }
  return String(cString: text)
}
