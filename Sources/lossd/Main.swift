import Glibc
import LossdPluginHost

/// The program: the daemon, or, started by it, a process that runs one plugin.
@main
enum Main {
  static func main() async {
    let arguments = CommandLine.arguments.dropFirst()
    if arguments.first == "plugin-host",
      let parent = arguments.dropFirst().first.flatMap({ Int32($0) })
    {
      exit(PluginProcess.main(parent: parent))
    }
    await LossdCommand.main()
  }
}
