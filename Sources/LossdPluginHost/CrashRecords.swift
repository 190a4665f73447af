import Glibc

/// Crashes of the daemon inside of a plugin, as its signal handler wrote them down: one line each, seconds since
/// 1970, what happened (`SIGSEGV`, `exit`), and where (`plugin focal 1.0, function focal_loss`).
struct CrashRecords {
  struct Record: Equatable {
    var time: Int
    var what: String
    var place: String
  }

  let records: [Record]

  init(_ text: String) {
    records = text.split(separator: "\n").compactMap { line in
      let parts = line.split(separator: " ", maxSplits: 2)
      guard parts.count == 3, let time = Int(parts[0]) else { return nil }
      return Record(time: time, what: String(parts[1]), place: String(parts[2]))
    }
  }

  /// What `path` says; nothing when it cannot be read.
  init(file path: String) {
    let descriptor = path.isEmpty ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 14)
    while descriptor >= 0 && text.count < 1 << 20 {
      let count = read(descriptor, &buffer, buffer.count)
      if count <= 0 { break }
      text += buffer[..<count]
    }
    if descriptor >= 0 { _ = close(descriptor) }
    self.init(String(decoding: text, as: UTF8.self))
  }

  /// The last crash in this version of a plugin, unless its file has changed since: seconds since 1970.
  func last(plugin: String, version: String, fileChanged: Int) -> Record? {
    records.last {
      $0.time >= fileChanged && $0.place.hasPrefix("plugin \(plugin) \(version),")
    }
  }
}
