import Configuration
import LossdServer
import LossdSocket

/// One key of the configuration: how it is read and what it means.
struct Setting: Sendable {
  let name: String
  let help: String
  var isList = false
  let apply: @Sendable (inout Settings, String) throws -> Void

  /// The first provider's text for it, nil when nobody has one.
  func read(_ providers: [any ConfigProvider]) throws -> String? {
    let key = AbsoluteConfigKey(name.split(separator: ".").map(String.init))
    for provider in providers {
      // A list is written as one in a file and with commas elsewhere.
      for type in isList ? [ConfigType.stringArray, .string] : [.string] {
        guard let value = try? provider.value(forKey: key, type: type).value else { continue }
        switch value.content {
        case .string(let text): return text
        case .stringArray(let texts): return texts.joined(separator: ",")
        default: continue
        }
      }
    }
    return nil
  }

  static let all: [Setting] = [
    Setting(name: "listen", help: "addresses, unix:PATH or tcp:HOST:PORT", isList: true) {
      let addresses = $1.split(separator: ",").map { $0.trimmed }
      if addresses.isEmpty { throw SettingError("no address") }
      for address in addresses {
        do { _ = try Address(parsing: address) } catch { throw SettingError("\(error)") }
      }
      $0.listen = addresses
    },
    Setting(name: "admin_listen", help: "Unix sockets for administrators", isList: true) {
      let addresses = $1.split(separator: ",").map { $0.trimmed }
      for address in addresses {
        guard case .unix? = try? Address(parsing: address) else {
          throw SettingError("\(address) is not unix:PATH")
        }
      }
      $0.adminListen = addresses
    },
    Setting(name: "plugin_folders", help: "folders whose plugins are loaded", isList: true) {
      let folders = $1.split(separator: ",").map { $0.trimmed }
      for folder in folders where !folder.hasPrefix("/") {
        throw SettingError("\(folder) is not an absolute path")
      }
      $0.pluginFolders = folders
    },
    Setting(name: "socket_mode", help: "permission bits of Unix sockets, octal") {
      guard let mode = UInt32($1, radix: 8), mode <= 0o777 else {
        throw SettingError("\($1) is not an octal mode such as 0660")
      }
      $0.socketMode = mode
    },
    Setting(name: "workers", help: "threads that compute; 0: one a processor") {
      $0.server.workers = try number($1, 0...1024)
    },
    Setting(name: "loops", help: "threads that serve connections") {
      $0.server.loops = try number($1, 1...64)
    },
    Setting(name: "log_level", help: "debug, info, notice, warning or error") {
      guard ["debug", "info", "notice", "warning", "error"].contains($1) else {
        throw SettingError("\($1) is not debug, info, notice, warning or error")
      }
      $0.logLevel = $1
    },
    Setting(name: "pooled_bytes", help: "freed buffers kept for the next calls") {
      $0.server.pooledBytesMax = try bytes($1, 0...(1 << 40))
    },
    Setting(name: "limits.message_bytes", help: "the largest message of a frame") {
      $0.server.limits.messageBytesMax = UInt32(
        try bytes($1, Int(ServerLimits.messageBytesMin)...(1 << 30)))
    },
    Setting(name: "limits.payload_bytes", help: "the largest payload of a frame") {
      $0.server.limits.payloadBytesMax = UInt64(
        try bytes($1, Int(ServerLimits.payloadBytesMin)...Int(UInt32.max)))
    },
    Setting(name: "limits.streams", help: "calls open at once on a connection") {
      $0.server.limits.streamsMax = UInt32(try number($1, Int(ServerLimits.streamsMin)...100_000))
    },
    Setting(name: "limits.stream_credit", help: "requests of a call under way at once") {
      $0.server.limits.streamCredit = UInt32(try number($1, 1...100_000))
    },
    Setting(name: "limits.connections", help: "connections open at once") {
      $0.server.limits.connectionsMax = try number($1, 1...1_000_000)
    },
    Setting(name: "limits.connection_bytes", help: "bytes in flight of one connection") {
      $0.server.limits.connectionBytesMax = try bytes($1, (1 << 20)...(1 << 46))
    },
    Setting(name: "limits.total_bytes", help: "bytes in flight of all connections") {
      $0.server.limits.totalBytesMax = try bytes($1, (1 << 20)...(1 << 46))
    },
    Setting(name: "limits.queued_bytes", help: "output queued beyond which reading stops") {
      $0.server.limits.queuedBytesMax = try bytes($1, (1 << 16)...(1 << 40))
    },
    Setting(name: "limits.hello_timeout", help: "from the connection to its HELLO") {
      $0.server.limits.helloTimeout = try duration($1)
    },
    Setting(name: "limits.frame_timeout", help: "without a byte in the middle of a frame") {
      $0.server.limits.frameTimeout = try duration($1)
    },
    Setting(name: "limits.idle_timeout", help: "without a frame while no call is open; 0: none") {
      $0.server.limits.idleTimeout = try duration($1)
    },
    Setting(name: "limits.write_timeout", help: "without a byte taken from queued output") {
      $0.server.limits.writeTimeout = try duration($1)
    },
    Setting(name: "limits.starve_timeout", help: "a call may keep memory from others so long") {
      $0.server.limits.starveTimeout = try duration($1)
    },
    Setting(name: "limits.drain_timeout", help: "from SIGTERM to the end") {
      $0.server.limits.drainTimeout = try duration($1)
    },
  ]

  private static func number(_ text: String, _ range: ClosedRange<Int>) throws -> Int {
    guard let value = Int(text.trimmed), range.contains(value) else {
      throw SettingError(
        "\(text) is not a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  /// `4194304`, `4MiB`, `1 GiB`.
  private static func bytes(_ text: String, _ range: ClosedRange<Int>) throws -> Int {
    let units = ["": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40]
    let (digits, unit) = text.splitUnit
    if let number = Int(digits), let factor = units[unit] {
      let (value, overflow) = number.multipliedReportingOverflow(by: factor)
      if !overflow && range.contains(value) { return value }
    }
    throw SettingError(
      "\(text) is not a size from \(range.lowerBound) to \(range.upperBound) bytes (units KiB, "
        + "MiB, GiB)")
  }

  /// `30s`, `500ms`, `2min`; nanoseconds.
  private static func duration(_ text: String) throws -> UInt64 {
    let units: [String: UInt64] = [
      "": 1_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "min": 60_000_000_000,
      "h": 3_600_000_000_000,
    ]
    let (digits, unit) = text.splitUnit
    if let number = UInt64(digits), let factor = units[unit] {
      let (value, overflow) = number.multipliedReportingOverflow(by: factor)
      if !overflow && value <= 31_536_000_000_000_000 { return value }
    }
    throw SettingError("\(text) is not a time up to a year (units ms, s, min, h)")
  }
}

extension StringProtocol {
  var trimmed: String {
    var text = Substring(self)
    while text.first?.isWhitespace ?? false { text = text.dropFirst() }
    while text.last?.isWhitespace ?? false { text = text.dropLast() }
    return String(text)
  }

  /// `4 MiB` as `4` and `MiB`.
  fileprivate var splitUnit: (digits: String, unit: String) {
    let text = trimmed
    let digits = text.prefix { $0.isNumber }
    return (String(digits), text[digits.endIndex...].trimmed)
  }
}
