import Glibc

/// Why a file could not be read or written.
public struct FileError: Error, Sendable, Equatable, CustomStringConvertible {
  public enum Kind: Sendable, Equatable {
    /// The system refused; its error number.
    case system(errno: Int32)
    /// Shorter than it says.
    case truncated
    /// Breaks the rules of its format.
    case malformed
    /// Sound, but not something lossd reads: a type without a match.
    case unsupported
    /// The file holds no tensor of that name, or several where a name is needed.
    case notFound
  }

  public let path: String
  public let kind: Kind
  /// What was wrong and what was expected, without the path.
  public let text: String

  init(_ path: String, _ kind: Kind, _ text: String) {
    self.path = path
    self.kind = kind
    self.text = text
  }

  init(_ path: String, _ flaw: HeaderFlaw) { self.init(path, flaw.kind, flaw.text) }

  /// A failed system call: `cannot open it: No such file or directory`.
  init(_ path: String, cannot action: String, errno: Int32) {
    // glibc's strerror is thread-safe since 2.32: its buffer is the thread's own.
    let reason = strerror(errno).map { String(cString: $0) } ?? "error \(errno)"
    self.init(path, .system(errno: errno), "cannot \(action): \(reason)")
  }

  public var description: String { "\(path): \(text)" }
}
