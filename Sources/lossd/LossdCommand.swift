import ArgumentParser
import CLinux
import Glibc
import Logging
import LossdEngine
import LossdSocket
import LossdSystemd
import LossdTensor
import LossdThreads

/// The daemon's command line.
struct LossdCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lossd",
    abstract: "Evaluates activation and loss functions and their gradients for clients.",
    discussion: """
      Settings come from the file, then from LOSSD_... in the environment, then from these flags. \
      SIGTERM lets calls under way end and exits; SIGHUP reads the settings again.
      """,
    version: "lossd \(lossdVersion)")

  @Option(
    help: ArgumentHelp("Settings, YAML.", valueName: "file"),
    completion: .file(extensions: ["yaml", "yml"]))
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
      valueName: "folder"), completion: .directory)
  var pluginDir: [String] = []

  @Option(help: ArgumentHelp("Threads that compute; 0: one a processor.", valueName: "n"))
  var workers: Int?

  @Option(help: ArgumentHelp("Threads that serve connections.", valueName: "n"))
  var loops: Int?

  @Option(
    help: ArgumentHelp("debug, info, notice, warning or error.", valueName: "level"),
    completion: .list(["debug", "info", "notice", "warning", "error"]))
  var logLevel: String?

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "Any setting of the file, such as limits.payload_bytes=2GiB; may be repeated.",
      valueName: "key=value"), completion: .list(Setting.all.map { $0.name + "=" }))
  var set: [String] = []

  @Flag(help: "Check the settings, say what is wrong, and exit.")
  var checkConfig = false

  @Flag(
    help: ArgumentHelp(
      "Make the running daemon reload, and wait for the outcome; for the unit's ExecReload=.",
      visibility: .hidden))
  var reload = false

  @Flag(
    help: ArgumentHelp(
      "Print every setting: name, default, kind, restart or reload, help; tabs between.",
      visibility: .hidden))
  var dumpSettings = false

  func run() async throws {
    if dumpSettings { return printSettings() }
    if reload {
      guard let failure = ReloadRequest.run() else { return }
      StandardErrorLog.complain("reload: \(failure)")
      throw ExitCode(1)
    }
    // First of all: other threads may read the environment later.
    let manager = ServiceManager.fromEnvironment()
    do { try await start(manager) } catch {
      let code: Int32 = error is SettingError ? 78 : 1  // EX_CONFIG
      StandardErrorLog.complain("\(error)")
      if manager.isPresent && !checkConfig {
        // Whoever starts it again at once must not spin on a mistake that stays.
        manager.status("\(error)")
        sleep(LossdCommand.failedStartSeconds)
      }
      throw ExitCode(code)
    }
  }

  private static let failedStartSeconds: UInt32 = 2

  private func start(_ manager: ServiceManager) async throws {
    let inherited = try InheritedSocket.fromEnvironment()
    let settings: Settings
    do { settings = try loadSettings() } catch let error as SettingError {
      throw SettingError("settings: \(error.text)")
    }
    if checkConfig {
      let addresses = settings.listen.isEmpty ? [Settings.systemSocket] : settings.listen
      print("settings are good: \(shownText(addresses.joined(separator: ", ")))")
      return
    }
    LoggingSystem.bootstrap { _ in StandardErrorLog() }
    StandardErrorLog.setLevel(settings.level)
    let log = Logger(label: "lossd")
    // A peer that is gone is an error of the write, not the end of the daemon.
    signal(SIGPIPE, SIG_IGN)
    raiseDescriptorLimit()
    let crashFile = settings.plugins.crashFile
    let error = clinux_report_crashes(crashFile, StandardErrorLog.crashPrefix)
    if error != 0 {
      log.error(
        "crashes in plugins cannot be recorded in \(crashFile): \(String(cString: strerror(error)))"
      )
    }
    // In a thread of its own: the tasks' threads, of which there may be one alone, are for tasks.
    let failure: (any Error)? = await withCheckedContinuation { continuation in
      startThread {
        clinux_name_thread("lossd-loop")
        do {
          let daemon = try Daemon(settings, manager, inherited, log, reload: loadSettings)
          daemon.run()
          // Not exit, and nothing after it: neither what plugins have registered for the end nor
          // any other thread is to keep the daemon from it.
          _exit(0)
        } catch { continuation.resume(returning: error) }
      }
    }
    if let failure { throw failure }
  }

  /// For what is made from the list of settings: manual page, example file.
  private func printSettings() {
    let defaults = Settings()
    for setting in Setting.all {
      print(
        [
          setting.name, setting.show(defaults), setting.kind,
          setting.needsRestart ? "restart" : "reload", setting.isList ? "list" : "one",
          setting.help,
        ].joined(separator: "\t"))
    }
  }

  @Sendable private func loadSettings() throws -> Settings {
    var flags: [String: String] = [:]
    let known = Set(Setting.all.map(\.name))
    for assignment in set {
      let parts = assignment.split(separator: "=", maxSplits: 1)
      guard parts.count == 2, known.contains(String(parts[0])) else {
        let guess = didYouMean(parts.first.map(String.init) ?? "", among: Setting.all.map(\.name))
        throw SettingError(
          "--set \(assignment.shownBriefly): expected KEY=VALUE of a setting"
            + (known.contains(String(parts.first ?? "")) ? "" : guess))
      }
      flags[String(parts[0])] = String(parts[1])
    }
    if !listen.isEmpty { flags["listen"] = listen.joined(separator: ",") }
    if !adminListen.isEmpty { flags["admin_listen"] = adminListen.joined(separator: ",") }
    if !pluginDir.isEmpty { flags["plugin_folders"] = pluginDir.joined(separator: ",") }
    if let workers { flags["workers"] = String(workers) }
    if let loops { flags["loops"] = String(loops) }
    if let logLevel { flags["log_level"] = logLevel }
    return try Settings.load(file: config, flags: flags)
  }

  /// One connection is one descriptor: take as many as the system allows.
  private func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }
}
