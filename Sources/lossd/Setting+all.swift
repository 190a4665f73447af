import LossdPluginHost
import LossdServer
import LossdSocket
import LossdTensor

extension Setting {
  /// Every key there is; documentation and the example file are made from this list.
  static let all: [Setting] = addresses + program + plugins + limits

  private static let addresses: [Setting] = [
    .list(
      "listen", "where clients connect",
      "addresses, unix:PATH or tcp:HOST:PORT; each also as address, protocols and services",
      \.listen, members: Listener.members
    ) { _ = try Listener(parsing: $0) },
    .list(
      "admin_listen", "where administrators connect, for its owner alone",
      "addresses, unix:PATH; each also as address, protocols and services",
      \.adminListen, members: Listener.members
    ) {
      guard case .unix = try Listener(parsing: $0).address else {
        throw SettingError("\($0.asValue) is not unix:PATH")
      }
    },
    Setting(
      name: "admin_peers",
      help:
        "who of those that connect to it may administer: root and the daemon's own user, or all "
        + "whom its file lets in",
      kind: "owner or socket", needsRestart: true,
      apply: { settings, text in
        guard let peers = AdminPeers(rawValue: text.trimmed) else {
          throw SettingError("\(text.asValue) is not owner or socket")
        }
        settings.server.adminPeers = peers
      }, show: { $0.server.adminPeers.rawValue }),
    protocols(
      "protocols", "what is spoken where clients connect: lossd's own wire, gRPC over HTTP/2",
      \.offer.protocols),
    services("services", "what can be called where clients connect", \.offer.services),
    protocols(
      "admin_protocols", "what is spoken where administrators connect; lossctl speaks lossd",
      \.adminOffer.protocols),
    services(
      "admin_services", "what can be called where administrators connect", \.adminOffer.services),
    .list("plugin_folders", "folders whose plugins are loaded", "absolute paths", \.pluginFolders) {
      if !$0.hasPrefix("/") { throw SettingError("\($0.asValue) is not an absolute path") }
    },
    Setting(
      name: "state_folder",
      help:
        "where crashes in plugins are recorded; empty: the service manager's RUNTIME_DIRECTORY, or "
        + "nowhere",
      kind: "absolute path", needsRestart: true,
      apply: { settings, text in
        if !text.isEmpty && !text.hasPrefix("/") {
          throw SettingError("\(text.asValue) is not an absolute path")
        }
        settings.stateFolder = text
      }, show: { $0.stateFolder }),
    Setting(
      name: "socket_mode", help: "permission bits of the Unix sockets of listen",
      kind: "octal mode",
      needsRestart: true,
      apply: { settings, text in
        guard let mode = UInt32(text, radix: 8), mode <= 0o777 else {
          throw SettingError("\(text.asValue) is not an octal mode such as 0660")
        }
        settings.socketMode = mode
      }, show: { "0" + String($0.socketMode, radix: 8) }),
  ]

  private static func protocols(
    _ name: String, _ help: String, _ path: Path<[WireProtocol]>
  ) -> Setting {
    Setting(
      name: name, help: help, kind: "lossd, grpc or both", isList: true, needsRestart: true,
      apply: { settings, text in
        settings[keyPath: path] = try Listener.protocols(
          text.split(separator: ",").map(\.trimmed))
      }, show: { $0[keyPath: path].map(\.rawValue).joined(separator: ",") })
  }

  private static func services(
    _ name: String, _ help: String, _ path: Path<ServiceSet>
  ) -> Setting {
    Setting(
      name: name, help: help, kind: "all, or full names of services", isList: true,
      needsRestart: true,
      apply: { settings, text in
        settings[keyPath: path] = try Listener.services(text.split(separator: ",").map(\.trimmed))
      },
      show: {
        let services = $0[keyPath: path]
        return services == .all ? "all" : services.names.joined(separator: ",")
      })
  }

  private static let program: [Setting] = [
    .number(
      "workers", "threads that compute; 0: one a processor", 0...1024, \.server.workers,
      needsRestart: true),
    .number("loops", "threads that serve connections", 1...64, \.server.loops, needsRestart: true),
    .duration(
      "busy_poll",
      "how long a loop looks for the next event before it sleeps, where they come close together",
      \.server.busyPoll, needsRestart: true),
    Setting(
      name: "log_level", help: "what is logged: this and what is graver",
      kind: "debug, info, notice, warning or error",
      apply: { settings, text in
        guard ["debug", "info", "notice", "warning", "error"].contains(text) else {
          throw SettingError("\(text.asValue) is not debug, info, notice, warning or error")
        }
        settings.logLevel = text
      }, show: { $0.logLevel }),
    .duration(
      "idle_exit", "without a connection, after which the daemon ends in order; 0: it does not",
      \.idleExitTime, needsRestart: true),
    .flag(
      "access_log", "a line a call: who, method, function, outcome, duration, bytes",
      \.server.accessLog),
    .bytes(
      "pooled_bytes", "freed buffers kept for the next calls", 0...(1 << 40),
      \.server.pooledBytesMax, needsRestart: true),
  ]

  private static let plugins: [Setting] = [
    Setting(
      name: "plugins.isolation",
      help:
        "where plugins run: in processes of their own, in the daemon, or the latter for its own "
        + "folder's alone",
      kind: "auto, process or none", needsRestart: true,
      apply: { settings, text in
        guard let isolation = PluginPolicy.Isolation(rawValue: text.trimmed) else {
          throw SettingError("\(text.asValue) is not auto, process or none")
        }
        settings.plugins.isolation = isolation
      }, show: { $0.plugins.isolation.rawValue }),
    .list(
      "plugins.in_daemon", "files that run in the daemon, whatever plugins.isolation says",
      "names of files, such as quality_focal.so", \.plugins.inDaemon, check: fileName),
    .list(
      "plugins.in_process",
      "files that run in processes of their own, whatever plugins.isolation says",
      "names of files, such as quality_focal.so", \.plugins.inProcess, check: fileName),
    .list(
      "plugins.pins", "checksums that files must have", "FILE=SHA-256, hexadecimal", \.pluginPins
    ) { text in
      let parts = text.split(separator: "=", maxSplits: 1)
      guard parts.count == 2, parts[1].count == 64, parts[1].allSatisfy(\.isHexDigit) else {
        throw SettingError("\(text.asValue) is not FILE= and 64 hexadecimal digits")
      }
      try fileName(String(parts[0]))
    },
    .bytes(
      "plugins.memory", "private memory of a plugin's process", (16 << 20)...(1 << 46),
      \.plugins.processes.memoryBytes, needsRestart: true),
    Setting(
      name: "plugins.confinement",
      help:
        "whether a plugin is refused whose process the kernel cannot confine in full, or confined "
        + "as far as possible",
      kind: "full or best", needsRestart: true,
      apply: { settings, text in
        guard let demand = ConfinementDemand(rawValue: text.trimmed) else {
          throw SettingError("\(text.asValue) is not full or best")
        }
        settings.plugins.processes.confinement = demand
      }, show: { $0.plugins.processes.confinement.rawValue }),
    .number(
      "plugins.processes", "processes of one plugin at once, for each loop", 1...64,
      \.plugins.processes.processesMax, needsRestart: true),
    .duration(
      "plugins.load_timeout", "how long a plugin may take to load", \.plugins.processes.loadTimeout,
      needsRestart: true),
  ]

  @Sendable private static func fileName(_ text: String) throws {
    if text.isEmpty || text.contains("/") || text.hasPrefix(".") {
      throw SettingError("\(text.asValue) is not the name of a file in a plugin folder")
    }
  }

  private static let limits: [Setting] = [
    .bytes(
      "limits.message_bytes", "the largest message of a frame",
      Int(ServerLimits.messageBytesMin)...(1 << 30), \.server.limits.messageBytesMax),
    .bytes(
      "limits.payload_bytes", "the largest payload of a frame",
      Int(ServerLimits.payloadBytesMin)...Int(UInt32.max), \.server.limits.payloadBytesMax),
    .number(
      "limits.streams", "calls open at once on a connection",
      Int(ServerLimits.streamsMin)...100_000, \.server.limits.streamsMax),
    .number(
      "limits.stream_credit", "requests of a call under way at once", 1...100_000,
      \.server.limits.streamCredit),
    .number(
      "limits.connections", "connections open at once; more wait to be accepted", 1...1_000_000,
      \.server.limits.connectionsMax),
    .bytes(
      "limits.connection_bytes", "bytes in flight of one connection", (1 << 20)...(1 << 46),
      \.server.limits.connectionBytesMax),
    .bytes(
      "limits.total_bytes", "bytes in flight of all connections", (1 << 20)...(1 << 46),
      \.server.limits.totalBytesMax),
    .bytes(
      "limits.user_bytes",
      "bytes in flight of all connections of one user; 0: half of limits.total_bytes",
      0...(1 << 46), \.server.limits.userBytesMax),
    .number(
      "limits.user_connections", "connections of one user open at once", 1...1_000_000,
      \.server.limits.userConnectionsMax),
    .number(
      "limits.user_streams", "calls of one user open at once",
      Int(ServerLimits.streamsMin)...10_000_000,
      \.server.limits.userStreamsMax),
    .bytes(
      "limits.region_bytes", "shared memory of all connections", 0...(1 << 46),
      \.server.limits.regionBytesMax),
    .bytes(
      "limits.user_region_bytes",
      "shared memory of all connections of one user; 0: half of limits.region_bytes",
      0...(1 << 46), \.server.limits.userRegionBytesMax),
    .number(
      "limits.regions", "regions of shared memory of all connections", 0...1_000_000,
      \.server.limits.regionsMax),
    .number(
      "limits.user_regions", "regions of shared memory of all connections of one user",
      0...1_000_000, \.server.limits.userRegionsMax),
    .duration(
      "limits.region_grace",
      "from a connection's end until the pages of its shared memory are freed",
      \.server.limits.regionGrace),
    .duration(
      "limits.call_cost", "the estimated work of one call, in time of one core; 0: none",
      \.server.limits.callCostMax),
    .bytes(
      "limits.queued_bytes", "output queued beyond which a connection is not read from",
      (1 << 16)...(1 << 40), \.server.limits.queuedBytesMax),
    .duration(
      "limits.hello_timeout", "from the connection to its HELLO", \.server.limits.helloTimeout),
    .duration(
      "limits.frame_timeout", "without a byte in the middle of a frame",
      \.server.limits.frameTimeout),
    .duration(
      "limits.idle_timeout", "without a frame while no call is open; 0: none",
      \.server.limits.idleTimeout),
    .duration(
      "limits.write_timeout", "without a byte taken from queued output",
      \.server.limits.writeTimeout),
    .duration(
      "limits.wait_timeout", "how long a call waits for memory before it is refused",
      \.server.limits.waitTimeout),
    .duration(
      "limits.starve_timeout",
      "how long a call may hold memory without getting on while others wait for memory",
      \.server.limits.starveTimeout),
    .duration(
      "limits.callback_timeout",
      "a plugin's callback may take so long, beyond which its call is given up; 0: for ever",
      \.server.limits.callbackTimeout),
    .duration("limits.drain_timeout", "from SIGTERM to the end", \.server.limits.drainTimeout),
  ]
}
