import CLinux
import Glibc
import LossdTensor

/// Files that nobody but root and this user can have put where they are.
enum TrustedPath {
  /// path_resolution(7)'s.
  private static let linksMax = 40

  /// Opens the regular file at an absolute path for reading. Every folder on the way, links being
  /// followed one by one, is looked at once it is open, so that none can be exchanged in between.
  /// FAILED_PRECONDITION with the reason where one of them, or the file, is another's or may be
  /// written by others, or where the file is a link.
  static func open(_ path: String) throws(StatusError) -> Int32 {
    guard path.hasPrefix("/"), !path.utf8.contains(0) else {
      throw PluginFile.refused(path, "not an absolute path")
    }
    var walk = Walk(path)
    defer { walk.close() }
    return try walk.run()
  }

  private struct Walk {
    let path: String
    var folder: Int32 = -1
    /// As far as it has come, for texts.
    var place = ""
    var rest: [Substring]
    var links = 0

    init(_ path: String) {
      self.path = path
      rest = path.split(separator: "/")
    }

    mutating func close() {
      if folder >= 0 { _ = Glibc.close(folder) }
      folder = -1
    }

    mutating func run() throws(StatusError) -> Int32 {
      try enter("/", from: AT_FDCWD)
      place = ""
      while rest.count > 1 {
        let name = String(rest.removeFirst())
        if name == "." { continue }
        try step(name)
      }
      guard let name = rest.first.map(String.init) else {
        throw PluginFile.refused(path, "not a regular file")
      }
      // Without O_NONBLOCK a pipe would be waited for.
      let file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
      if file < 0 { throw failed(errno == ELOOP ? "a symbolic link" : text(errno)) }
      var status = stat()
      guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
        _ = Glibc.close(file)
        throw failed("not a regular file")
      }
      if let reason = TrustedPath.distrust(status) {
        _ = Glibc.close(file)
        throw failed(reason)
      }
      return file
    }

    private mutating func step(_ name: String) throws(StatusError) {
      let next = clinux_open_place(folder, name, O_NOFOLLOW)
      if next < 0 { throw failed("its folder \(place)/\(name): \(text(errno))") }
      var status = stat()
      guard fstat(next, &status) == 0, status.st_mode & S_IFMT == S_IFLNK else {
        _ = Glibc.close(next)
        return try enter(name, from: folder)
      }
      defer { _ = Glibc.close(next) }
      links += 1
      // Whoever owns a link can point it elsewhere where its folder lets him.
      if let reason = TrustedPath.distrustOwner(status) {
        throw failed("its folder \(place)/\(name) is a link \(reason)")
      }
      var target = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
      let count = readlinkat(next, "", &target, Int(PATH_MAX))
      guard count > 0, links <= TrustedPath.linksMax else {
        throw failed("its folder \(place)/\(name): \(text(count > 0 ? ELOOP : errno))")
      }
      let to = String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      rest = to.split(separator: "/") + rest
      if to.hasPrefix("/") {
        try enter("/", from: AT_FDCWD)
        place = ""
      }
    }

    private mutating func enter(_ name: String, from: Int32) throws(StatusError) {
      let next = clinux_open_place(from, name, O_DIRECTORY | O_NOFOLLOW)
      if next < 0 { throw failed("its folder \(place)/\(name): \(text(errno))") }
      close()
      folder = next
      place = name == "/" ? "/" : name == ".." ? splitPath(place).folder : place + "/" + name
      var status = stat()
      guard fstat(next, &status) == 0 else { throw failed("its folder \(place): \(text(errno))") }
      // In a folder with the sticky bit, such as /tmp, nobody but its owner renames what is
      // another's.
      let isSticky = status.st_mode & S_ISVTX != 0
      let reason = isSticky ? TrustedPath.distrustOwner(status) : TrustedPath.distrust(status)
      if let reason { throw failed("its folder \(place) is \(reason)") }
    }

    private func failed(_ reason: String) -> StatusError { PluginFile.refused(path, reason) }
    private func text(_ number: Int32) -> String { String(cString: strerror(number)) }
  }

  private static func distrustOwner(_ status: stat) -> String? {
    status.st_uid == 0 || status.st_uid == geteuid()
      ? nil : "owned by user \(status.st_uid), not by root or the daemon's own"
  }

  private static func distrust(_ status: stat) -> String? {
    if let reason = distrustOwner(status) { return reason }
    return status.st_mode & 0o022 != 0
      ? "writable by its group or others (mode \(String(status.st_mode & 0o777, radix: 8)))" : nil
  }
}
