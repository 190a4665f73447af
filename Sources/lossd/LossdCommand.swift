import ArgumentParser
import CLinux
import Glibc
import Logging
import LossdCatalogue
import LossdEngine
import LossdLoop
import LossdPluginHost
import LossdServer
import LossdSocket
import LossdTensor

/// The daemon's command line.
@main
struct LossdCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lossd",
    abstract: "Evaluates activation and loss functions and their gradients for clients.",
    discussion: """
      Settings come from the file, then from LOSSD_... in the environment, then from these flags. \
      SIGTERM lets calls under way end and exits.
      """,
    version: "lossd \(lossdVersion)")

  @Option(help: ArgumentHelp("Settings, YAML.", valueName: "file"))
  var config: String?

  @Option(
    help: ArgumentHelp(
      "Where to listen: unix:PATH or tcp:HOST:PORT; may be repeated.", valueName: "address"))
  var listen: [String] = []

  @Option(
    help: ArgumentHelp(
      "Where administrators connect: unix:PATH, for its owner alone; may be repeated.",
      valueName: "address"))
  var adminListen: [String] = []

  @Option(
    help: ArgumentHelp(
      "A folder whose plugins are loaded, now and when it changes; may be repeated.",
      valueName: "folder"))
  var pluginDir: [String] = []

  @Option(help: ArgumentHelp("Threads that compute; 0: one a processor.", valueName: "n"))
  var workers: Int?

  @Option(help: ArgumentHelp("Threads that serve connections.", valueName: "n"))
  var loops: Int?

  @Option(help: ArgumentHelp("debug, info, notice, warning or error.", valueName: "level"))
  var logLevel: String?

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "Any setting of the file, such as limits.payload_bytes=2GiB; may be repeated.",
      valueName: "key=value"))
  var set: [String] = []

  @Flag(help: "Check the settings, say what is wrong, and exit.")
  var checkConfig = false

  func run() async throws {
    let settings: Settings
    do { settings = try await loadSettings() } catch let error as SettingError {
      complain("settings: \(error.text)")
      throw ExitCode(78)  // EX_CONFIG
    }
    if checkConfig {
      print("settings are good: \(settings.listen.joined(separator: ", "))")
      return
    }
    LoggingSystem.bootstrap { _ in StandardErrorLog() }
    var log = Logger(label: "lossd")
    log.logLevel = Logger.Level(rawValue: settings.logLevel) ?? .info
    do { try serve(settings, log) } catch {
      log.critical("\(error)")
      throw ExitCode(1)
    }
  }

  private func loadSettings() async throws -> Settings {
    var flags: [String: String] = [:]
    let known = Set(Setting.all.map(\.name))
    for assignment in set {
      let parts = assignment.split(separator: "=", maxSplits: 1)
      guard parts.count == 2, known.contains(String(parts[0])) else {
        throw SettingError("--set \(assignment): expected KEY=VALUE of a setting")
      }
      flags[String(parts[0])] = String(parts[1])
    }
    if !listen.isEmpty { flags["listen"] = listen.joined(separator: ",") }
    if !adminListen.isEmpty { flags["admin_listen"] = adminListen.joined(separator: ",") }
    if !pluginDir.isEmpty { flags["plugin_folders"] = pluginDir.joined(separator: ",") }
    if let workers { flags["workers"] = String(workers) }
    if let loops { flags["loops"] = String(loops) }
    if let logLevel { flags["log_level"] = logLevel }
    return try await Settings.load(file: config, flags: flags)
  }

  private func serve(_ settings: Settings, _ log: Logger) throws {
    // A peer that is gone is an error of the write, not the end of the daemon.
    signal(SIGPIPE, SIG_IGN)
    raiseDescriptorLimit()
    clinux_report_crashes()
    let registry = Registry()
    try registry.add(cataloguePlugin())
    let plugins = PluginManager(registry, folders: settings.pluginFolders) { isError, text in
      log.log(level: isError ? .error : .notice, "\(text)")
    }
    var serverSettings = settings.server
    serverSettings.software = "lossd/\(lossdVersion)"
    let server = try Server(registry, serverSettings, plugins: plugins)
    server.setLog { log.warning("\($0)") }
    let folders = try PluginFolders(plugins, server.loop)
    defer { folders.close() }
    for text in settings.listen {
      let socket = try ListeningSocket(
        binding: try Address(parsing: text), mode: settings.socketMode)
      try server.listen(socket)
      log.notice("listening on \(socket.address)")
    }
    for text in settings.adminListen {
      let socket = try ListeningSocket(binding: try Address(parsing: text), mode: 0o600)
      try server.listen(socket, isAdmin: true)
      log.notice("listening on \(socket.address) for administrators")
    }
    var watchers: [SignalWatcher] = []
    for number in [SIGTERM, SIGINT] {
      watchers.append(
        try SignalWatcher(server.loop, signal: number) {
          log.notice("shutting down")
          server.drain()
        })
    }
    log.notice("lossd \(lossdVersion) is ready")
    server.run()
    for watcher in watchers { watcher.close() }
    log.notice("stopped")
  }

  /// One connection is one descriptor: take as many as the system allows.
  private func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  private func complain(_ text: String) {
    "lossd: \(text)\n".withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
  }
}

/// The version of the daemon and its programs.
let lossdVersion = "0.1.0"
