import Glibc

/// A Unix socket's place in the file system, known again by device and inode.
struct SocketFile: Sendable, Equatable {
  let path: String
  let device: dev_t
  let inode: ino_t

  /// What stands at `path` now; nil when nothing does. Does not follow a symbolic link.
  init?(at path: String) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return nil }
    self.path = path
    device = status.st_dev
    inode = status.st_ino
  }

  /// Removes the file, unless another has taken its place.
  func remove() {
    if SocketFile(at: path) == self { unlink(path) }
  }

  /// Makes room at `path` for a new socket: the file that a dead daemon left is removed; anything
  /// else in the way is an error. The caller holds the folder's lock.
  static func makeRoom(at path: String, _ operation: String) throws(SocketError) {
    var status = stat()
    if lstat(path, &status) != 0 {
      if errno == ENOENT { return }
      throw SocketError(operation, errno: errno)
    }
    // connect() to a plain file says "refused" too: look at the type first.
    if status.st_mode & S_IFMT != S_IFSOCK {
      throw SocketError(
        operation, errno: EEXIST, text: "\(path) exists and is not a socket; not touched")
    }
    let target: SocketAddress
    do { target = try SocketAddress(path: path) } catch {
      throw SocketError(operation, text: error.text)
    }
    let probe = try Descriptor.socket(AF_UNIX, nonBlocking: true, for: operation)
    let result = target.with { connect(probe.raw, $0, $1) }
    switch result == 0 ? 0 : errno {
    case 0, EAGAIN, EINPROGRESS:  // EAGAIN: it lives, its queue is full.
      throw SocketError(operation, errno: EADDRINUSE, text: "another daemon answers on \(path)")
    case ECONNREFUSED:
      if unlink(path) != 0 && errno != ENOENT {
        throw SocketError("\(operation): remove the dead socket", errno: errno)
      }
    case ENOENT: break
    case let failure:
      throw SocketError(
        operation, errno: failure,
        text: "\(path) is another's socket: \(errorText(failure))")
    }
  }
}

/// A lock on the folder of a socket, held while its file is exchanged: of two daemons that start at
/// once, one waits and then finds the other alive. Nothing is left behind, as a lock file would be.
struct FolderLock: ~Copyable {
  private let folder: Descriptor
  /// How long another start may take, in tries 10 ms apart.
  private static let triesMax = 500

  init(ofFolderOf path: String, _ operation: String) throws(SocketError) {
    let end = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let name = end.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let opened = try FolderLock.opened(name, operation)
    try FolderLock.wait(for: opened.raw, name, operation)
    folder = opened
  }

  private static func opened(
    _ name: String, _ operation: String
  ) throws(SocketError) -> Descriptor {
    let raw = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if raw < 0 { throw SocketError("\(operation): folder \(name)", errno: errno) }
    return Descriptor(adopting: raw)
  }

  private static func wait(
    for raw: Int32, _ name: String, _ operation: String
  ) throws(SocketError) {
    var tries = 0
    while flock(raw, LOCK_EX | LOCK_NB) != 0 {
      let failure = errno
      if failure != EWOULDBLOCK && failure != EINTR {
        throw SocketError("\(operation): lock folder \(name)", errno: failure)
      }
      tries += 1
      if tries > FolderLock.triesMax {
        throw SocketError(
          operation, errno: failure, text: "another process keeps folder \(name) locked")
      }
      usleep(10_000)
    }
  }
}
