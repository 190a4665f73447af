import ArgumentParser
import Glibc
import LossdPluginHost

extension Plugin {
  /// lossctl plugin install FILE
  struct Install: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Check a plugin and put it into a folder in one atomic step; asks no daemon.")
    @Argument(help: "The file; its name ends in .so.") var file: String
    @Option(help: "The plugin folder.") var folder = "/etc/lossd/plugins"

    func run() async throws {
      try await reporting {
        let source = try absolute(file)
        let name = source.split(separator: "/").last.map(String.init) ?? ""
        guard name.hasSuffix(".so"), !name.hasPrefix(".") else {
          throw Complaint(
            "\(name): the daemon takes files that end in .so and do not begin with a dot",
            status: 64)
        }
        _ = try PluginManager.check(source)
        try copyAtomically(source, to: folder, name)
        print("\(folder)/\(name)")
      }
    }
  }
}

/// A file that appears under its name whole or not at all, and that a power failure does not take away again: written
/// to disk under another name first, then renamed, then the folder is written. Mode 0755, whatever the umask.
private func copyAtomically(_ source: String, to folder: String, _ name: String) throws {
  func failure(_ what: String) -> Complaint {
    Complaint("\(what): \(String(cString: strerror(errno)))", status: 73)
  }
  let from = open(source, O_RDONLY | O_CLOEXEC)
  if from < 0 { throw failure(source) }
  defer { _ = close(from) }
  let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  if directory < 0 { throw failure(folder) }
  defer { _ = close(directory) }
  let temporary = ".\(name).\(getpid())"
  let to = openat(directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
  if to < 0 { throw failure("\(folder)/\(temporary)") }
  defer {
    _ = close(to)
    // There only where something failed.
    _ = unlinkat(directory, temporary, 0)
  }
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = read(from, &buffer, buffer.count)
    if count < 0 && errno == EINTR { continue }
    if count < 0 { throw failure(source) }
    if count == 0 { break }
    var written = 0
    while written < count {
      let part = buffer[written..<count].withUnsafeBytes { write(to, $0.baseAddress, $0.count) }
      if part < 0 && errno == EINTR { continue }
      if part <= 0 { throw failure("\(folder)/\(temporary)") }
      written += part
    }
  }
  guard fchmod(to, 0o755) == 0, fsync(to) == 0,
    renameat(directory, temporary, directory, name) == 0, fsync(directory) == 0
  else { throw failure("\(folder)/\(name)") }
}
