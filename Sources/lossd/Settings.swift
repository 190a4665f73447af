import Configuration
import Glibc
import Logging
import LossdPluginHost
import LossdServer
import LossdSocket
import LossdTensor

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
  /// What is offered where clients connect, and where administrators do, unless an item of `listen`
  /// or `admin_listen` says otherwise.
  var offer = ListenerOffer()
  var adminOffer = ListenerOffer()
  /// Permission bits of Unix sockets' files.
  var socketMode: UInt32 = 0o660
  var logLevel = "info"
  /// Nanoseconds without a connection after which the daemon ends; 0: it does not.
  var idleExitTime: UInt64 = 0
  var server = Server.Settings()

  /// What `logLevel` names.
  var level: Logger.Level { Logger.Level(rawValue: logLevel) ?? .info }

  /// `flags` are strings by key, lists joined by commas.
  static func load(file: String?, flags: [String: String]) throws -> Settings {
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
    let content = try file.map { try SettingsFile($0) }
    if let content { providers.append(InMemoryProvider(values: content.values)) }
    var settings = Settings()
    for setting in Setting.all {
      guard let (text, provider) = setting.read(providers) else { continue }
      do throws(SettingError) { try setting.use(text, in: &settings) } catch {
        guard let content, provider == providers.count - 1 else { throw error }
        throw content.located(error, of: setting)
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
}

/// A setting that cannot be used, and why: one line, whatever a file or a variable has in it.
struct SettingError: Error, CustomStringConvertible {
  let text: String
  init(_ text: String) { self.text = text.shownLine }
  var description: String { text }
}
