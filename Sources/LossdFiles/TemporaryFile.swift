import Glibc

/// A file being written under a name of its own beside the one it will get; removed unless `commit`
/// gave it that name.
struct TemporaryFile: ~Copyable {
  private let target: String
  private let path: String
  private let descriptor: Int32
  private var offset = 0
  private var isCommitted = false

  /// Creates the file.
  init(for path: String) throws(FileError) {
    let target = try TemporaryFile.target(path)
    // Not the target's name, which may be as long as names can be.
    let random = UInt64.random(in: 0...UInt64.max)
    let temporary = TemporaryFile.folder(target) + ".lossd-\(String(random, radix: 36)).tmp"
    let descriptor = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    if descriptor < 0 {
      throw FileError(path, cannot: "create a file beside it", errno: errno)
    }
    self.init(target: target, path: temporary, descriptor: descriptor)
  }

  private init(target: String, path: String, descriptor: Int32) {
    self.target = target
    self.path = path
    self.descriptor = descriptor
  }

  deinit {
    _ = close(descriptor)
    if !isCommitted { _ = unlink(path) }
  }

  /// Where the file ends up. A link at `path` is followed; anything there but a regular file is
  /// refused, so that saving to /dev/null does not replace it.
  private static func target(_ path: String) throws(FileError) -> String {
    var status = stat()
    if stat(path, &status) != 0 {
      if errno == ENOENT { return path }
      throw FileError(path, cannot: "write it", errno: errno)
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(path, .unsupported, "cannot replace it: this is not a regular file")
    }
    guard let resolved = realpath(path, nil) else {
      throw FileError(path, cannot: "write it", errno: errno)
    }
    defer { free(resolved) }
    return String(cString: resolved)
  }

  /// The path up to its last slash, which is part of it; empty without one.
  private static func folder(_ path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "" }
    return String(path[...slash])
  }

  mutating func append(_ bytes: [UInt8]) throws(FileError) {
    try write(bytes, at: offset)
    offset += bytes.count
  }

  mutating func append(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
    try write(bytes, at: offset)
    offset += bytes.count
  }

  func write(_ bytes: [UInt8], at start: Int) throws(FileError) {
    try bytes.withUnsafeBufferPointer { bytes throws(FileError) in
      try write(UnsafeRawBufferPointer(bytes), at: start)
    }
  }

  /// Writes all of `bytes` at `start`, in bytes.
  func write(_ bytes: UnsafeRawBufferPointer, at start: Int) throws(FileError) {
    var done = 0
    while done < bytes.count {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
      let count = pwrite(descriptor, rest.baseAddress, rest.count, start + done)
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError(target, cannot: "write it", errno: errno)
      }
      done += count
    }
  }

  /// Makes the file durable and gives it its name.
  mutating func commit() throws(FileError) {
    if fsync(descriptor) != 0 { throw FileError(target, cannot: "sync it", errno: errno) }
    if rename(path, target) != 0 {
      throw FileError(target, cannot: "put it in its place", errno: errno)
    }
    isCommitted = true
    // The new name should survive a power cut as well; a folder that cannot be synced is no error.
    let folder = TemporaryFile.folder(target)
    let parent = open(folder.isEmpty ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if parent >= 0 {
      _ = fsync(parent)
      _ = close(parent)
    }
  }
}
