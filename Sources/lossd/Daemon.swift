import CLinux
import Glibc
import Logging
import LossdCatalogue
import LossdEngine
import LossdLoop
import LossdPluginHost
import LossdServer
import LossdSocket
import LossdSystemd
import LossdTensor

/// The running daemon: sockets, plugins, signals and the service manager around a server. Made and
/// run in one thread, which is the first loop's.
final class Daemon {
  private let settings: Settings
  private let manager: ServiceManager
  private let log: Logger
  private let server: Server
  private let plugins: PluginManager
  private var folders: PluginFolders?
  private var reloader: Reloader?
  private var signals: [SignalWatcher] = []
  private var isStopping = false

  /// `reload`: reads the settings again, from where they came.
  init(
    _ settings: Settings, _ manager: ServiceManager, _ inherited: [InheritedSocket], _ log: Logger,
    reload: @escaping @Sendable () throws -> Settings
  ) throws {
    self.settings = settings
    self.manager = manager
    self.log = log
    let registry = Registry()
    try registry.add(cataloguePlugin())
    plugins = PluginManager(
      registry, folders: settings.pluginFolders, policy: settings.plugins
    ) { isError, text in
      log.log(level: isError ? .error : .notice, "\(text)")
    }
    var serverSettings = settings.server
    serverSettings.software = "lossd/\(lossdVersion)"
    serverSettings.kernels = catalogueKernels
    server = try Server(registry, serverSettings, plugins: plugins)
    server.setLog { log.log(level: $0.loggerLevel, "\($1)") }
    PluginLog.setSink { level, text in log.log(level: Daemon.level(level), "\(text)") }
    server.setAccessLog(settings.server.accessLog, write: StandardErrorLog.writeCalls)
    try openSockets(inherited)
    folders = try PluginFolders(plugins, server.loop)
    try watchSignals(reload)
    if let time = manager.watchdogTime {
      server.watch(every: time / 2) { manager.alive() }
    }
    if settings.idleExitTime > 0 {
      server.watchIdleness(for: settings.idleExitTime) { [unowned self] in
        if !isStopping { log.notice("no connection for \(settings.idleExitTime / 1_000_000) ms") }
        stop()
      }
    }
  }

  /// Plugins in the daemon have so long to stop, nanoseconds.
  private static let pluginStopTime: UInt64 = 2_000_000_000

  /// What plugin.h's level is to the log.
  private static func level(_ level: Int32) -> Logger.Level {
    switch level {
    case 0: .debug
    case 1: .info
    case 2: .warning
    default: .error
    }
  }

  /// Serves until a signal ends it.
  func run() {
    log.notice("lossd \(lossdVersion) is ready")
    reloader?.recordStart()
    manager.ready("serving")
    server.run()
    for signal in signals { signal.close() }
    reloader?.close()
    folders?.close()
    plugins.close(within: Daemon.pluginStopTime)
    log.notice("stopped")
  }

  // MARK: - Sockets

  private func openSockets(_ inherited: [InheritedSocket]) throws {
    var served: Set<Address> = []
    var clients = try settings.listen.map(Listener.init(parsing:))
    let admin = try settings.adminListen.map(Listener.init(parsing:))
    var isInherited = (clients: false, admin: false)
    for socket in inherited {
      // A socket for administrators must not be served to clients by a mistake in a name.
      guard socket.name == "lossd" || socket.name == "lossd-admin" else {
        throw SettingError(
          "the service manager's socket \(socket.name) is neither lossd nor lossd-admin: set "
            + "FileDescriptorName= in its unit")
      }
      let isAdmin = socket.name == "lossd-admin"
      let listening = try ListeningSocket(adopting: Descriptor(adopting: socket.fd))
      if isAdmin, case .tcp = listening.address {
        throw SettingError(
          "lossd-admin is not to be had by TCP: ListenStream= of its unit names a path")
      }
      served.insert(listening.address)
      if isAdmin { isInherited.admin = true } else { isInherited.clients = true }
      // What the settings say of its address holds for it, too.
      let its = (isAdmin ? admin : clients).first { $0.address == listening.address }
      try serve(listening, isAdmin: isAdmin, its, "the service manager's ")
    }
    if settings.listen.isEmpty && !isInherited.clients {
      clients = [try Listener(parsing: Settings.systemSocket)]
    }
    for listener in clients where !served.contains(listener.address) {
      try serve(
        try ListeningSocket(binding: listener.address, mode: settings.socketMode), isAdmin: false,
        listener, "")
    }
    for listener in admin where !served.contains(listener.address) {
      try serve(
        try ListeningSocket(binding: listener.address, mode: 0o600), isAdmin: true, listener, "")
    }
  }

  /// - Parameter listener: what the settings say of the socket; nil: nothing.
  private func serve(
    _ socket: ListeningSocket, isAdmin: Bool, _ listener: Listener?, _ whose: String
  ) throws {
    let general = isAdmin ? settings.adminOffer : settings.offer
    try server.listen(socket, isAdmin: isAdmin, listener?.offer(general) ?? general)
    log.notice("listening on \(whose)\(socket.address)\(isAdmin ? " for administrators" : "")")
  }

  // MARK: - Signals

  private func watchSignals(_ reload: @escaping @Sendable () throws -> Settings) throws {
    for number in [SIGTERM, SIGINT] {
      signals.append(try SignalWatcher(server.loop, signal: number) { [unowned self] in stop() })
    }
    let reloader = Reloader(settings, manager, server.loop, log, read: reload) { [unowned self] in
      take($0)
    }
    self.reloader = reloader
    signals.append(
      try SignalWatcher(server.loop, signal: SIGHUP) { [unowned self] in
        if !isStopping { reloader.reload() }
      })
  }

  private func stop() {
    if isStopping { return }
    isStopping = true
    log.notice("shutting down")
    // Beyond the drain's own time: its last second, and the workers' chunks.
    let time = reloader?.settings.server.limits.drainTimeout ?? 0
    manager.stopping(within: time + 5_000_000_000)
    server.drain()
  }

  /// Takes settings over that a reload has changed.
  private func take(_ settings: Settings) {
    StandardErrorLog.setLevel(settings.level)
    server.setLimits(settings.server.limits)
    server.setAccessLog(settings.server.accessLog, write: StandardErrorLog.writeCalls)
    folders?.rescan()
  }
}

extension LogLevel {
  fileprivate var loggerLevel: Logger.Level {
    switch self {
    case .debug: .debug
    case .info: .info
    case .notice: .notice
    case .warning: .warning
    case .error: .error
    }
  }
}
