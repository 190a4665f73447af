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
    static let configuration = CommandConfiguration(abstract: "List the plugins that are loaded.")
    @OptionGroup var server: ServerOption
    @Flag(help: "Print JSON.") var json = false

    func run() async throws {
      try await reporting {
        let plugins = try await server.ask(.list)
        print(
          json ? JSON.list(plugins.map(\.json)).text : plugins.map(\.text).joined(separator: "\n"))
      }
    }
  }

  struct Load: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Load a file of the daemon's plugin folders, by its name.")
    @OptionGroup var server: ServerOption
    @Argument(help: "The file's name, such as focal.so.") var file: String
    @Option(
      help: ArgumentHelp(
        "Where it runs from now on: in the daemon (none) or in processes of its own (process); else as the settings say.",
        valueName: "none|process"))
    var isolation = ""

    func run() async throws {
      try await reporting {
        for plugin in try await server.ask(.load(file, isolation: isolation)) {
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
        for plugin in try await server.ask(.reload(name)) { print("reloaded " + plugin.text) }
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
  /// Asks the PluginHost service.
  fileprivate func ask(_ request: PluginRequest) async throws -> [PluginMessage] {
    var option = self
    if option.server == nil {
      option.server =
        getenv("LOSSD_ADMIN_ADDRESS").map { String(cString: $0) } ?? "unix:/run/lossd/admin.sock"
    }
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
    var text =
      "\(name) \(version) (\(file.isEmpty ? "a part of the daemon" : file)): "
      + functions.joined(separator: ", ")
    if isolation == "process" {
      text +=
        "\n  in processes of its own (\(processes.map(String.init).joined(separator: ", "))), \(state)"
      if restarts > 0 { text += ", restarted \(restarts) times, the last one \(lastReason)" }
    } else if state != "serving" {
      text += "\n  \(state)"
    }
    return text
  }

  fileprivate var json: JSON {
    .object([
      ("name", .string(name)), ("version", .string(version)), ("file", .string(file)),
      ("functions", .list(functions.map { .string($0) })), ("isolation", .string(isolation)),
      ("state", .string(state)), ("restarts", .int(Int(restarts))),
      ("last_reason", .string(lastReason)),
      ("processes", .list(processes.map { .int(Int($0)) })),
    ])
  }
}
