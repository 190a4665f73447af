import Glibc

/// A file in memory, for readers that want a path. Freed with the last reference.
public final class MemoryFile {
  public let descriptor: Int32

  public init() {
    var name = Array("/dev/shm/lossd-fuzz-XXXXXX".utf8CString)
    descriptor = mkstemp(&name)
    require(descriptor >= 0, "no file in memory")
    unlink(name)
  }

  deinit { close(descriptor) }

  /// Where this process can open it.
  public var path: String { "/proc/self/fd/\(descriptor)" }

  /// Replaces its contents.
  public func write(_ bytes: UnsafeRawBufferPointer) {
    require(ftruncate(descriptor, 0) == 0, "the file in memory cannot be cut")
    require(
      pwrite(descriptor, bytes.baseAddress, bytes.count, 0) == bytes.count,
      "the file in memory cannot be written")
  }
}
