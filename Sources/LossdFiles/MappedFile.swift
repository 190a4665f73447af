import Glibc

/// A regular file mapped for reading, unmapped with the last reference: only the pages that are
/// touched take memory, and the system drops them again when it needs to.
///
/// Nobody may shorten the file meanwhile: the kernel answers a touch beyond its new end with
/// SIGBUS; `read` throws. (Replacing it by rename is harmless, the mapping and the descriptor keep
/// the old file.)
///
/// `@unchecked Sendable` holds because the pages are never written.
final class MappedFile: @unchecked Sendable {
  let path: String
  let count: Int
  private let bytes: UnsafeRawBufferPointer
  private let descriptor: Int32

  init(path: String) throws(FileError) {
    self.path = path
    // Non-blocking, so that the open of a pipe returns and can be refused.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    if descriptor < 0 { throw FileError(path, cannot: "open it", errno: errno) }
    do throws(FileError) {
      bytes = try MappedFile.map(descriptor, path)
    } catch {
      _ = close(descriptor)
      throw error
    }
    count = bytes.count
    self.descriptor = descriptor
  }

  private static func map(
    _ descriptor: Int32, _ path: String
  ) throws(FileError) -> UnsafeRawBufferPointer {
    var status = stat()
    if fstat(descriptor, &status) != 0 { throw FileError(path, cannot: "stat it", errno: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(path, .unsupported, "this is not a regular file")
    }
    let count = Int(status.st_size)
    if count == 0 { return UnsafeRawBufferPointer(start: nil, count: 0) }
    guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED
    else { throw FileError(path, cannot: "map it", errno: errno) }
    return UnsafeRawBufferPointer(start: base, count: count)
  }

  /// Reads as many bytes as `destination` has, from `offset` on, past the mapping: no page of the
  /// file is mapped for it.
  func read(
    at offset: Int, to destination: UnsafeMutableRawBufferPointer
  ) throws(FileError) {
    var done = 0
    while done < destination.count {
      let count = pread(
        descriptor, destination.baseAddress.map { $0 + done }, destination.count - done,
        offset + done)
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError(path, cannot: "read it", errno: errno)
      }
      if count == 0 {
        throw FileError(
          path, .truncated, "it has become shorter than \(offset + destination.count) bytes")
      }
      done += count
    }
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
    _ = close(descriptor)
  }
}
