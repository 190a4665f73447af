import Glibc

/// A regular file mapped for reading, unmapped with the last reference: only the pages that are
/// touched take memory, and the system drops them again when it needs to.
///
/// Nobody may shorten the file meanwhile: the kernel answers a read beyond its new end with SIGBUS.
/// (Replacing it by rename is harmless, the mapping keeps the old file.)
///
/// `@unchecked Sendable` holds because the pages are never written.
final class MappedFile: @unchecked Sendable {
  let path: String
  let count: Int
  private let bytes: UnsafeRawBufferPointer

  init(path: String) throws(FileError) {
    self.path = path
    // Non-blocking, so that the open of a pipe returns and can be refused.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if descriptor < 0 { throw FileError(path, cannot: "open it", errno: errno) }
    defer { _ = close(descriptor) }
    var status = stat()
    if fstat(descriptor, &status) != 0 { throw FileError(path, cannot: "stat it", errno: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(path, .unsupported, "this is not a regular file")
    }
    count = Int(status.st_size)
    if count == 0 {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED
    else { throw FileError(path, cannot: "map it", errno: errno) }
    bytes = UnsafeRawBufferPointer(start: base, count: count)
  }

  /// The bytes, valid as long as this object lives: the compiler may end it after its last use.
  var unsafeBytes: UnsafeRawBufferPointer { bytes }

  func withBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { withExtendedLifetime(self) {} }
    return try body(bytes)
  }

  deinit {
    if let base = bytes.baseAddress {
      munmap(UnsafeMutableRawPointer(mutating: base), bytes.count)
    }
  }
}
