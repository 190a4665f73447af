import Glibc

/// Crashes of the daemon inside of a plugin, as its signal handler wrote them down: one line each,
/// seconds since 1970 with nine decimals, what happened (`SIGSEGV`, `exit`), and where (`plugin
/// tweedie 1.0, function tweedie_loss`).
struct CrashRecords {
  struct Record: Equatable {
    /// Nanoseconds since 1970.
    var time: Int
    var what: String
    var place: String
  }

  /// As much of the file's end is read, bytes.
  static let bytesMax = 64 << 10

  let records: [Record]

  init(_ text: String) {
    records = text.split(separator: "\n").compactMap { line in
      let parts = line.split(separator: " ", maxSplits: 2)
      guard parts.count == 3, let time = CrashRecords.nanoseconds(parts[0]) else { return nil }
      return Record(time: time, what: String(parts[1]), place: String(parts[2]))
    }
  }

  /// What `path` says; nothing when it cannot be read.
  init(file path: String) {
    let descriptor =
      path.isEmpty ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard descriptor >= 0 else {
      self.init("")
      return
    }
    defer { _ = close(descriptor) }
    let begin = max(lseek(descriptor, 0, SEEK_END) - CrashRecords.bytesMax, 0)
    let text = [UInt8](unsafeUninitializedCapacity: CrashRecords.bytesMax) { buffer, count in
      count = max(pread(descriptor, buffer.baseAddress, CrashRecords.bytesMax, begin), 0)
    }
    // The first line is whole only at the file's begin.
    let lines = begin == 0 ? text[...] : text.drop { $0 != UInt8(ascii: "\n") }
    self.init(String(decoding: lines, as: UTF8.self))
  }

  private static func nanoseconds(_ text: Substring) -> Int? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, parts[1].utf8.count == 9, let seconds = Int(parts[0]),
      let rest = Int(parts[1]), seconds >= 0, seconds < 1 << 33, rest >= 0
    else { return nil }
    return seconds * 1_000_000_000 + rest
  }

  /// The last crash in this version of a plugin, unless its file has changed since, `fileChanged`
  /// nanoseconds since 1970.
  func last(plugin: String, version: String, fileChanged: Int) -> Record? {
    records.last {
      $0.time >= fileChanged && $0.place.hasPrefix("plugin \(plugin) \(version),")
    }
  }
}
