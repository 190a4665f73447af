import ArgumentParser
import Glibc
import LossdPluginHost
import LossdTensor
import LossdWire

extension Plugin {
  /// lossctl plugin install FILE
  struct Install: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Put a plugin into a folder in one atomic step, checked.",
      discussion: """
        The file may be anybody's and anywhere: it is copied, and the copy is checked, in the folder and by the rules \
        of the daemon, before it gets its name. Where the daemon answers on its admin socket (--server, else \
        $LOSSD_ADMIN_ADDRESS, else unix:/run/lossd/admin.sock) and loads plugins from the folder, the outcome there is \
        waited for: status 1 where the daemon refuses what was installed.
        """)
    @Argument(help: "The file; its name ends in .so.", completion: .file(extensions: ["so"]))
    var file: String
    @Option(help: "The plugin folder.", completion: .directory) var folder = "/etc/lossd/plugins"
    @OptionGroup var trial: PluginTryOptions
    @OptionGroup var server: ServerOption

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
        let begin = milliseconds()
        try copyAtomically(source, to: to, name) { copy in
          let probe = try trial.probe(copy, as: source)
          for note in probe.notes { printError("\(source): \(note)") }
          if let note = probe.rehearseEnd() { printError("\(source): \(note)") }
        }
        print("\(folder)/\(name)")
        try await waitForDaemon(to, name, since: begin)
      }
    }

    /// Says what the daemon makes of the file, if one is there whose folder it is. Throws where it
    /// refuses the file.
    private func waitForDaemon(_ folder: String, _ name: String, since begin: Int64) async throws {
      let path = "\(folder)/\(name)"
      let seconds = 5 + (trial.loadTimeout ?? 10)
      let server = self.server
      while Double(milliseconds() - begin) < seconds * 1000 {
        let answer: PluginsResponse?
        do {
          answer = try await within(seconds: 5) { try await server.ask(.list) }
        } catch let error as StatusError where error.code == .unavailable {
          // Nobody has said that there is one.
          if server.adminAddress != nil { printError("not asked whether it is loaded: \(error)") }
          return
        } catch {
          return printError("not asked whether it is loaded: \(error)")
        }
        guard let answer else {
          return printError("not asked whether it is loaded: the daemon does not answer")
        }
        guard answer.folders.contains(where: { (try? absolute($0)) == folder }) else {
          if server.adminAddress != nil {
            printError("the daemon does not load plugins from \(folder) (plugin_folders)")
          }
          return
        }
        let own = answer.plugins.filter { (try? absolute($0.file)) == path && $0.since >= begin }
        if let refused = own.first(where: { $0.state == "refused" }) {
          throw Complaint("installed, but the daemon refuses it: \(refused.text)")
        }
        if let plugin = own.first { return print("loaded " + plugin.text) }
        try await Task.sleep(for: .milliseconds(100))
      }
      printError("the daemon has not loaded it within \(seconds) s; lossctl plugin list tells")
    }
  }
}

/// Milliseconds since 1970.
private func milliseconds() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
}

/// The result of `body`, nil where there is none in time; `body` goes on then, and nobody waits for
/// it.
private func within<Result: Sendable>(
  seconds: Int, _ body: @escaping @Sendable () async throws -> Result
) async throws -> Result? {
  let (outcomes, outcome) = AsyncStream.makeStream(of: Swift.Result<Result?, any Error>.self)
  Task {
    do { outcome.yield(.success(try await body())) } catch { outcome.yield(.failure(error)) }
  }
  Task {
    try await Task.sleep(for: .seconds(seconds))
    outcome.yield(.success(nil))
  }
  for await first in outcomes { return try first.get() }
  return nil
}

/// Runs `body` with a copy of a file in a folder of this process alone, which is gone afterwards;
/// it lies where TMPDIR says, else in the system's own place.
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

/// A file that appears under its name whole and checked or not at all, and that a power failure
/// does not take away again: written to disk under another name first, then renamed, then the
/// folder is written. Mode 0755, whatever the umask.
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
