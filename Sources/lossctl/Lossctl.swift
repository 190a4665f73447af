import ArgumentParser
import Glibc
import LossdClient
import LossdSocket
import LossdTensor
import LossdWire

/// The command-line client of lossd.
struct Lossctl: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lossctl",
    abstract: "Asks a lossd daemon, or evaluates without one.",
    discussion: """
      The daemon's address is --server, else $LOSSD_ADDRESS, else unix:/run/lossd/lossd.sock.
      """,
    version: "lossctl \(lossdVersion)",
    subcommands: [
      Eval.self, Merge.self, Functions.self, Plugin.self, Status.self, Ping.self, Bench.self,
    ])

  static func main() async {
    if let text = wrongCommand(CommandLine.arguments.dropFirst()) {
      printError("lossctl: \(text)")
      Glibc.exit(64)
    }
    await main(nil)
  }

  /// What is wrong where the arguments name a command that does not exist; nil else.
  static func wrongCommand(_ arguments: ArraySlice<String>) -> String? {
    var (commands, path) = (configuration.subcommands, "lossctl")
    var isValue = false
    for argument in arguments {
      if isValue || argument == "--server" || argument.hasPrefix("--server=") {
        isValue = !isValue && argument == "--server"
        continue
      }
      // --help, --version, and what the shells' completions need.
      if argument.hasPrefix("-") { return nil }
      var names: [String] = []
      for command in commands { names.append(command._commandName) }
      guard let place = names.firstIndex(of: argument) else {
        if argument == "help" { return nil }
        return "there is no command `\(argument)`; \(path) takes \(names.joined(separator: ", "))"
          + didYouMean(argument, among: names)
      }
      commands = commands[place].configuration.subcommands
      path += " " + argument
      if commands.isEmpty { return nil }
    }
    return nil
  }

  // Taken before the subcommand as well as behind it: a subcommand has the same group.
  @OptionGroup var server: ServerOption
}

/// Which daemon.
struct ServerOption: ParsableArguments {
  @Option(
    help: ArgumentHelp("The daemon: unix:PATH or tcp:HOST:PORT.", valueName: "address"))
  var server: String?

  func client() throws -> Client {
    let text =
      server ?? getenv("LOSSD_ADDRESS").map { String(cString: $0) } ?? "unix:/run/lossd/lossd.sock"
    do {
      return Client(try Address(parsing: text), software: "lossctl/\(lossdVersion)")
    } catch { throw Complaint("\(error)", status: 64) }
  }
}

/// What went wrong, for people; printed as it is.
struct Complaint: Error, CustomStringConvertible {
  let description: String
  /// sysexits(3) where it has one.
  let status: Int32

  init(_ text: String, status: Int32 = 1) {
    description = text
    self.status = status
  }
}

/// Runs a command's body; an error becomes one line on standard error and an exit status.
func reporting(_ body: () async throws -> Void) async throws {
  do { try await body() } catch let error as ExitCode { throw error } catch {
    let status: Int32
    switch error {
    case let error as Complaint: status = error.status
    // What the request got wrong, as against a daemon that is not there.
    case let error as StatusError: status = error.code == .unavailable ? 69 : 1
    default: status = 1
    }
    printError("lossctl: \(error)")
    throw ExitCode(status)
  }
}

/// One line on standard error; what of it others wrote cannot make it more.
func printError(_ text: String) {
  (shownText(text) + "\n").withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
}

/// Lines on standard output, in the place of Swift's own: names and texts of a daemon, its plugins
/// and files are in them.
func print(_ text: String) {
  Swift.print(shownText(text, bytesMax: .max, keepsLines: true))
}

extension String {
  /// A text of others within lines of ours.
  var shown: String { shownText(self, bytesMax: 1024) }
}
