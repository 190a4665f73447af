import ArgumentParser
import Glibc
import LossdPluginHost
import LossdTensor

extension Plugin {
  /// lossctl plugin install FILE
  struct Install: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Put a plugin into a folder in one atomic step, checked; asks no daemon.",
      discussion: """
        The file may be anybody's and anywhere: it is copied, and the copy is checked, in the folder and by the rules \
        of the daemon, before it gets its name.
        """)
    @Argument(help: "The file; its name ends in .so.", completion: .file(extensions: ["so"]))
    var file: String
    @Option(help: "The plugin folder.", completion: .directory) var folder = "/etc/lossd/plugins"

    func run() async throws {
      try await reporting {
        let source = try absolute(file)
        let name = source.split(separator: "/").last.map(String.init) ?? ""
        guard name.hasSuffix(".so"), !name.hasPrefix(".") else {
          throw Complaint(
            "\(name): the daemon takes files that end in .so and do not begin with a dot",
            status: 64)
        }
        let to = try absolute(folder)
        try copyAtomically(source, to: to, name) { copy in
          do { _ = try PluginManager.check(copy) } catch let error as StatusError {
            // Its own name, not the copy's, which is gone by the time it is read.
            let parts = error.message.split(separator: copy, omittingEmptySubsequences: false)
            throw StatusError(error.code, parts.joined(separator: source))
          }
        }
        print("\(folder)/\(name)")
      }
    }
  }
}

/// Runs `body` with a copy of a file in a folder of this process alone, which is gone afterwards; it lies where TMPDIR
/// says, else in the system's own place.
func withPrivateCopy<Result>(of source: String, _ body: (String) throws -> Result) throws -> Result
{
  let place = getenv("TMPDIR").map { String(cString: $0) } ?? P_tmpdir
  var template = Array("\(place)/lossctl-XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else {
    throw Complaint("\(place): \(String(cString: strerror(errno)))", status: 73)
  }
  let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  let name = source.split(separator: "/").last.map(String.init) ?? "plugin.so"
  defer {
    unlink("\(folder)/\(name)")
    rmdir(folder)
  }
  try copyAtomically(source, to: folder, name)
  return try body("\(folder)/\(name)")
}

/// A file that appears under its name whole and checked or not at all, and that a power failure does not take away
/// again: written to disk under another name first, then renamed, then the folder is written. Mode 0755, whatever the
/// umask.
private func copyAtomically(
  _ source: String, to folder: String, _ name: String,
  checking check: (String) throws -> Void = { _ in }
) throws {
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
  try copy(from, to, failure("\(folder)/\(name)"))
  guard fchmod(to, 0o755) == 0, fsync(to) == 0 else { throw failure("\(folder)/\(name)") }
  try check("\(folder)/\(temporary)")
  guard renameat(directory, temporary, directory, name) == 0, fsync(directory) == 0 else {
    throw failure("\(folder)/\(name)")
  }
}

/// All bytes of one descriptor to another.
private func copy(_ from: Int32, _ to: Int32, _ failure: @autoclosure () -> Complaint) throws {
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = read(from, &buffer, buffer.count)
    if count < 0 && errno == EINTR { continue }
    if count < 0 { throw failure() }
    if count == 0 { return }
    var written = 0
    while written < count {
      let part = buffer[written..<count].withUnsafeBytes { write(to, $0.baseAddress, $0.count) }
      if part < 0 && errno == EINTR { continue }
      if part <= 0 { throw failure() }
      written += part
    }
  }
}
