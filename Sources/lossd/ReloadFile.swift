import Glibc
import SystemPackage

/// How a daemon's reloads went.
struct ReloadOutcome: Equatable {
  var pid: pid_t
  /// Reloads begun and ended since the start.
  var begun = 0
  var done = 0
  /// Why the last one failed; nil: it did not.
  var failure: String?

  init(pid: pid_t) { self.pid = pid }

  /// What `text` is.
  init?(_ text: String) {
    var values: [Substring: Substring] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: "=", maxSplits: 1)
      if parts.count == 2 { values[parts[0]] = parts[1] }
    }
    // 0 and what is negative are more than one process to kill(2).
    guard let pid = values["pid"].flatMap({ pid_t($0) }), pid > 0,
      let begun = values["begun"].flatMap({ Int($0) }),
      let done = values["done"].flatMap({ Int($0) })
    else { return nil }
    self.pid = pid
    self.begun = begun
    self.done = done
    failure = values["failure"].map(String.init)
  }

  var text: String {
    var text = "pid=\(pid)\nbegun=\(begun)\ndone=\(done)\n"
    if let failure { text += "failure=\(String(failure.map { $0.isNewline ? " " : $0 }))\n" }
    return text
  }
}

/// Where a daemon says how its reloads went: `reload` in the folder that the service manager made
/// for it (RuntimeDirectory=).
struct ReloadFile {
  let path: String

  static func fromEnvironment() -> ReloadFile? {
    guard let folder = getenv("RUNTIME_DIRECTORY").map({ String(cString: $0) }),
      folder.hasPrefix("/"), !folder.contains(":")
    else { return nil }
    return ReloadFile(path: folder + "/reload")
  }

  /// Replaces the file in one step; why it could not, nil when it could.
  func write(_ outcome: ReloadOutcome) -> String? {
    let temporary = FilePath(path + ".new")
    do {
      let file = try FileDescriptor.open(
        temporary, .writeOnly, options: [.create, .truncate, .closeOnExec],
        permissions: [
          .ownerReadWrite, .groupRead, .otherRead,
        ])
      try file.closeAfter { _ = try file.writeAll(outcome.text.utf8) }
    } catch { return "\(path): \(error)" }
    return rename(temporary.string, path) == 0 ? nil : "\(path): cannot be replaced"
  }

  func read() -> ReloadOutcome? {
    (try? [UInt8](contentsOf: FilePath(path))).flatMap {
      ReloadOutcome(String(decoding: $0, as: UTF8.self))
    }
  }

  func remove() { unlink(path) }
}
