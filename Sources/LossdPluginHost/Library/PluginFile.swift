// LossdPluginHost: plugins as shared libraries: which files are trusted, how they are opened and
// closed, and what is loaded now. It knows no socket and no message.
import CLinux
import Glibc
import LossdTensor

/// A library file, checked and copied into sealed memory: what is checked is what is opened,
/// whatever becomes of the file.
struct PluginFile: ~Copyable {
  static let bytesMax = 1 << 30

  /// Where it was copied from.
  let path: String
  /// The copy's descriptor, and its size in bytes.
  private(set) var descriptor: Int32
  let size: Int
  /// Tells one state of a file from another.
  let identity: Identity

  struct Identity: Equatable, Sendable {
    var device: dev_t
    var inode: ino_t
    var size: Int
    var modified: Int
    /// When anything about it changed last, its owner and mode too; not to be set by anybody,
    /// unlike `modified`.
    var changed: Int

    /// Whether it is the same file with the same bytes, as far as can be seen without reading them.
    func hasBytes(of other: Identity) -> Bool {
      device == other.device && inode == other.inode && size == other.size
        && modified == other.modified
    }
  }

  deinit { if descriptor >= 0 { _ = close(descriptor) } }

  /// Gives the descriptor to a new owner, who has to close it.
  mutating func take() -> Int32 {
    defer { descriptor = -1 }
    return descriptor
  }

  /// Refused, with FAILED_PRECONDITION and the reason: what is no regular file, what root or this
  /// user does not own, what another may write, any parent folder included, what is no library for
  /// this machine, and what has not the checksum `pin` (SHA-256, hexadecimal), unless that is nil.
  init(_ path: String, pin: String? = nil) throws(StatusError) {
    let source = try TrustedPath.open(path)
    defer { _ = close(source) }
    var status = stat()
    guard fstat(source, &status) == 0, status.st_size > 0, status.st_size <= PluginFile.bytesMax
    else { throw PluginFile.refused(path, "\(status.st_size) bytes long") }
    let size = Int(status.st_size)
    let (copy, checksum) = try PluginFile.copied(source, path, size, isPinned: pin != nil)
    if let pin, pin.lowercased() != checksum {
      _ = close(copy)
      throw PluginFile.refused(path, "its SHA-256 is \(checksum), pinned is \(pin)")
    }
    identity = Identity(status)
    descriptor = copy
    self.path = path
    self.size = size
  }

  /// The identity of the file that is there now; nil when there is none.
  static func identity(_ path: String) -> Identity? {
    var status = stat()
    return lstat(path, &status) == 0 ? Identity(status) : nil
  }

  /// The sealed copy, and its checksum where that is asked for.
  private static func copied(
    _ source: Int32, _ path: String, _ size: Int, isPinned: Bool
  ) throws(StatusError) -> (copy: Int32, checksum: String) {
    let copy = clinux_memory_file("lossd-plugin")
    guard copy >= 0 else { throw refused(path, "no memory for a copy") }
    var isGood = false
    defer { if !isGood { _ = close(copy) } }
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 16, alignment: 16)
    defer { buffer.deallocate() }
    var total = 0
    var digest = Checksum()
    while true {
      let count = read(source, buffer, 1 << 16)
      if count < 0 && errno == EINTR { continue }
      if count < 0 { throw refused(path, String(cString: strerror(errno))) }
      if count == 0 { break }
      var written = 0
      while written < count {
        let part = write(copy, buffer + written, count - written)
        if part < 0 { throw refused(path, "no memory for a copy") }
        written += part
      }
      if isPinned { digest.add(UnsafeRawBufferPointer(start: buffer, count: count)) }
      total += count
      if total > bytesMax { throw refused(path, "it grows while it is read") }
    }
    guard total == size, clinux_seal(copy) == 0 else {
      throw refused(path, "it changed while it was read")
    }
    try ELFCheck.check(copy, total) { (reason) throws(StatusError) in throw refused(path, reason) }
    isGood = true
    return (copy, digest.hexadecimal)
  }

  static func refused(_ path: String, _ reason: String) -> StatusError {
    StatusError(.failedPrecondition, "\(path): refused: \(reason)")
  }
}

extension PluginFile.Identity {
  init(_ status: stat) {
    self.init(
      device: status.st_dev, inode: status.st_ino, size: Int(status.st_size),
      modified: PluginFile.Identity.nanoseconds(status.st_mtim),
      changed: PluginFile.Identity.nanoseconds(status.st_ctim))
  }

  /// Since 1970. Anybody who owns a file can say that it is of any year: what is too far away is
  /// 100 years away.
  static func nanoseconds(_ time: timespec) -> Int {
    let seconds = min(max(time.tv_sec, -3_155_760_000), 3_155_760_000 + 1_767_225_600)
    return seconds * 1_000_000_000 + min(max(time.tv_nsec, 0), 999_999_999)
  }
}
