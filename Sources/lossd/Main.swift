import Glibc
import LossdPluginHost

/// The program: the daemon, or, started by it, a process that runs one plugin.
@main
enum Main {
  static func main() async {
    let arguments = CommandLine.arguments.dropFirst()
    if arguments.first == PluginProcess.command { exit(PluginProcess.main()) }
    await LossdCommand.main()
  }
}
