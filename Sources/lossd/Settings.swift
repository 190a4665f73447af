import Configuration
import Glibc
import Logging
import LossdPluginHost
import LossdServer
import LossdSocket
import LossdTensor
import SystemPackage
import Yams

/// Everything an administrator may set: from a YAML file, then `LOSSD_...` in the environment, then
/// flags; the later wins.
struct Settings: Sendable {
  /// Empty: the system's socket, or what the service manager opened.
  var listen: [String] = []
  static let systemSocket = "unix:/run/lossd/lossd.sock"
  /// Where the PluginHost service answers; Unix sockets for their owner alone.
  var adminListen: [String] = []
  var pluginFolders: [String] = []
  var plugins = PluginPolicy()
  /// FILE=SHA-256 each.
  var pluginPins: [String] = []
  /// Where the daemon keeps what it has to know after a crash; empty: the service manager's folder,
  /// if there is one.
  var stateFolder = ""
  /// Permission bits of Unix sockets' files.
  var socketMode: UInt32 = 0o660
  var logLevel = "info"
  var server = Server.Settings()

  /// What `logLevel` names.
  var level: Logger.Level { Logger.Level(rawValue: logLevel) ?? .info }

  /// `flags` are strings by key, lists joined by commas.
  static func load(file: String?, flags: [String: String]) async throws -> Settings {
    var providers: [any ConfigProvider] = [
      InMemoryProvider(
        values: Dictionary(
          uniqueKeysWithValues: flags.map {
            (
              AbsoluteConfigKey($0.key.split(separator: ".").map(String.init)),
              ConfigValue(.string($0.value), isSecret: false)
            )
          })),
      KeyMappingProvider(upstream: EnvironmentVariablesProvider()) { $0.prepending(["lossd"]) },
    ]
    if let file {
      if try hasKeys(file) {
        do {
          providers.append(try await FileProvider<YAMLSnapshot>(filePath: FilePath(file)))
        } catch { throw SettingError("\(file): \(error)") }
      }
    }
    var settings = Settings()
    for setting in Setting.all {
      guard let text = try setting.read(providers) else { continue }
      do { try setting.apply(&settings, text) } catch let error as SettingError {
        throw SettingError("\(setting.name): \(error.text)")
      }
    }
    settings.completePlugins()
    return settings
  }

  /// What follows from other settings and from where the program is.
  private mutating func completePlugins() {
    plugins.pins = Dictionary(
      pluginPins.map { pin in
        let parts = pin.split(separator: "=", maxSplits: 1).map(String.init)
        return (parts[0], parts[1])
      }, uniquingKeysWith: { $1 })
    let workers = server.workers > 0 ? server.workers : Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    plugins.processes.threads = workers
    // Payloads and results of all calls, and as much that is kept for the next ones.
    plugins.processes.sharedBytesMax =
      2 * UInt64(server.limits.totalBytesMax) + UInt64(server.pooledBytesMax)
    if let program = realpath("/proc/self/exe", nil) {
      defer { free(program) }
      var parts = String(cString: program).split(separator: "/")
      // PREFIX/sbin/lossd: its own plugins are in PREFIX/lib/lossd/plugins.
      parts.removeLast(min(2, parts.count))
      plugins.ownFolder = "/" + (parts + ["lib", "lossd", "plugins"]).joined(separator: "/")
    }
    var folder = stateFolder
    if folder.isEmpty, let runtime = getenv("RUNTIME_DIRECTORY").map({ String(cString: $0) }),
      runtime.hasPrefix("/"), !runtime.contains(":")
    {
      folder = runtime
    }
    if !folder.isEmpty { plugins.crashFile = folder + "/plugin-crashes" }
  }

  /// Whether a file sets anything; one of comments alone does not. A key that nobody reads is a
  /// mistake: most often one of spelling.
  private static func hasKeys(_ file: String) throws -> Bool {
    let text: String
    do {
      text = try String(contentsOf: FilePath(file))
    } catch { throw SettingError("\(file): \(error)") }
    guard aliases(in: text) <= aliasesMax else {
      throw SettingError(
        "\(file): it has over \(aliasesMax) aliases (*NAME), the most that a file of settings may "
          + "have"
      )
    }
    let node: Node?
    do { node = try Yams.compose(yaml: text) } catch {
      throw SettingError("\(file): \(error)")
    }
    guard let node, node.null == nil else { return false }
    guard let mapping = node.mapping else {
      throw SettingError("\(file): expected settings, `key: value` lines")
    }
    let sections = Set(
      Setting.all.compactMap { $0.name.split(separator: ".").dropLast().first.map(String.init) })
    for (key, value) in mapping {
      let name = key.string ?? "?"
      if let section = value.mapping, sections.contains(name) {
        for (key, value) in section { try check("\(name).\(key.string ?? "?")", value, file) }
      } else {
        try check(name, value, file)
      }
    }
    return !mapping.isEmpty
  }

  /// Aliases of aliases multiply, and whoever compares two keys follows them all: some dozens are
  /// hours.
  private static let aliasesMax = 8

  /// At least as many aliases as there are: asterisks with something behind them, but in comments
  /// of plain ASCII (YAML knows more ends of lines than one).
  private static func aliases(in text: String) -> Int {
    text.utf8.split(separator: UInt8(ascii: "\n")).reduce(0) { count, line in
      let isComment = line.first { $0 != 0x20 && $0 != 0x09 } == UInt8(ascii: "#")
      if isComment && line.allSatisfy({ (0x20..<0x7F).contains($0) || $0 == 0x09 }) { return count }
      return count + zip(line, line.dropFirst()).count { $0 == UInt8(ascii: "*") && $1 > 0x20 }
    }
  }

  /// A key that nobody reads, or a value of the wrong kind, which would not be read and leave the
  /// setting as it was.
  private static func check(_ name: String, _ value: Node, _ file: String) throws {
    guard let setting = Setting.all.first(where: { $0.name == name }) else {
      throw SettingError(
        "\(file): there is no setting \(name)" + didYouMean(name, among: Setting.all.map(\.name)))
    }
    switch value {
    case .scalar: return
    case .sequence(let items) where setting.isList && items.allSatisfy { $0.scalar != nil }: return
    default:
      throw SettingError(
        "\(file): \(name) is \(value.mapping == nil ? "a list" : "a mapping"), expected "
          + "\(setting.kind)"
      )
    }
  }
}

/// A setting that cannot be used, and why.
struct SettingError: Error, CustomStringConvertible {
  let text: String
  init(_ text: String) { self.text = text }
  var description: String { text }
}

extension String {
  /// The whole file, as UTF-8.
  init(contentsOf path: FilePath) throws {
    let descriptor = try FileDescriptor.open(path, .readOnly)
    var bytes: [UInt8] = []
    try descriptor.closeAfter {
      var buffer = [UInt8](repeating: 0, count: 1 << 16)
      while true {
        let count = try buffer.withUnsafeMutableBytes { try descriptor.read(into: $0) }
        if count == 0 { break }
        bytes += buffer[..<count]
        if bytes.count > 1 << 20 { throw SettingError("the file is over 1 MiB") }
      }
    }
    self = String(decoding: bytes, as: UTF8.self)
  }
}
