import Glibc
import LossdPluginHost
import lossctl

/// The program: the daemon; the client, where it is called by the name lossctl; or, started by
/// either, a process that runs one plugin.
@main
enum Main {
  static func main() async {
    let arguments = CommandLine.arguments
    if arguments.dropFirst().first == PluginProcess.command { exit(PluginProcess.main()) }
    let name = arguments.first?.split(separator: "/").last
    if name == "lossctl" { await lossctlMain() } else { await LossdCommand.main() }
  }
}
