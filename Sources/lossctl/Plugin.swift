import ArgumentParser
import Glibc
import LossdClient
import LossdTensor
import LossdWire

/// lossctl plugin ...
struct Plugin: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Add, exchange and remove the functions of a running daemon.",
    discussion: """
      list, load, reload and unload need the daemon's admin socket (--server, else $LOSSD_ADMIN_ADDRESS, \
      else unix:/run/lossd/admin.sock).
      """,
    subcommands: [
      List.self, Load.self, Reload.self, Unload.self, Check.self, Install.self, New.self,
    ])

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List the plugins that are loaded, and the files that were refused.")
    @OptionGroup var server: ServerOption
    @Flag(help: "Print JSON.") var json = false

    func run() async throws {
      try await reporting {
        let plugins = try await server.ask(.list).plugins
        print(
          json ? JSON.list(plugins.map(\.json)).text : plugins.map(\.text).joined(separator: "\n"))
      }
    }
  }

  struct Load: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Load a file of the daemon's plugin folders, by its name.")
    @OptionGroup var server: ServerOption
    @Argument(help: "The file's name, such as quality_focal.so.") var file: String
    @Option(
      help: ArgumentHelp(
        """
        Where it runs from now on: in the daemon (none) or in processes of its own (process); else \
        as the settings say.
        """,
        valueName: "none|process"))
    var isolation = ""

    func run() async throws {
      try await reporting {
        for plugin in try await server.ask(.load(file, isolation: isolation)).plugins {
          print("loaded " + plugin.text)
        }
      }
    }
  }

  struct Reload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Load a plugin's file again; calls under way end with the version they began with.")
    @OptionGroup var server: ServerOption
    @Argument(help: "The plugin's name, or its file's.", completion: pluginNames) var name: String

    func run() async throws {
      try await reporting {
        for plugin in try await server.ask(.reload(name)).plugins {
          print("reloaded " + plugin.text)
        }
      }
    }
  }

  struct Unload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Remove a plugin's functions; its library is closed after the last call.")
    @OptionGroup var server: ServerOption
    @Argument(help: "The plugin's name, or its file's.", completion: pluginNames) var name: String

    func run() async throws {
      try await reporting {
        _ = try await server.ask(.unload(name))
        print("unloaded \(name)")
      }
    }
  }
}

/// What a shell offers where a plugin is wanted.
private let pluginNames = CompletionKind.shellCommand(
  "lossctl plugin list 2>/dev/null | cut -d ' ' -f 1")

extension ServerOption {
  /// Where administrators connect, if anybody has said so.
  var adminAddress: String? { server ?? getenv("LOSSD_ADMIN_ADDRESS").map { String(cString: $0) } }

  /// Asks the PluginHost service.
  func ask(_ request: PluginRequest) async throws -> PluginsResponse {
    var option = self
    option.server = adminAddress ?? "unix:/run/lossd/admin.sock"
    let client = try option.client()
    defer { client.close() }
    return try await client.plugins(request)
  }
}

func absolute(_ file: String) throws -> String {
  guard let resolved = realpath(file, nil) else {
    throw Complaint("\(file): \(String(cString: strerror(errno)))", status: 66)
  }
  defer { free(resolved) }
  return String(cString: resolved)
}

extension PluginMessage {
  var text: String {
    if state == "refused" {
      return
        "\(name.shown) (\(file.shown)): refused since \(timeText(since)): \(lastReason.shown)"
    }
    var text =
      "\(name.shown) \(version.shown) (\(file.isEmpty ? "a part of the daemon" : file.shown)): "
      + functions.map(\.shown).joined(separator: ", ")
    if isolation == "process" {
      text +=
        "\n  in processes of its own ("
        + (processes.isEmpty ? "none now" : processes.map(String.init).joined(separator: ", "))
        + "), \(state.shown)"
      if restarts > 0 { text += ", restarted \(restarts) times, the last one \(lastReason.shown)" }
    } else if state != "serving" || !lastReason.isEmpty {
      text += "\n  \(state.shown)" + (lastReason.isEmpty ? "" : ": \(lastReason.shown)")
    }
    return text
  }

  fileprivate var json: JSON {
    .object([
      ("name", .string(name)), ("version", .string(version)), ("file", .string(file)),
      ("functions", .list(functions.map { .string($0) })), ("isolation", .string(isolation)),
      ("state", .string(state)), ("restarts", .int(Int(restarts))),
      ("last_reason", .string(lastReason)),
      ("processes", .list(processes.map { .int(Int($0)) })), ("since_unix_ms", .int(Int(since))),
    ])
  }
}

/// Milliseconds since 1970 as a time in UTC, such as 2026-11-27T21:12:45Z.
private func timeText(_ milliseconds: Int64) -> String {
  var seconds = time_t(milliseconds / 1000)
  var parts = tm()
  var text = [CChar](repeating: 0, count: 32)
  guard gmtime_r(&seconds, &parts) != nil,
    strftime(&text, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts) > 0
  else { return "\(milliseconds) ms after 1970" }
  return String(cString: text)
}
