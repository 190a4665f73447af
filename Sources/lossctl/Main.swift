import Glibc
import LossdPluginHost

/// The program: the client, or, started by it, a process that runs a plugin which is being checked.
@main
enum Main {
  static func main() async {
    let arguments = CommandLine.arguments.dropFirst()
    if arguments.first == PluginProcess.command { exit(PluginProcess.main()) }
    await Lossctl.main()
  }
}
