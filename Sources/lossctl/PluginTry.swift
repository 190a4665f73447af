import ArgumentParser
import Glibc
import LossdCatalogue
import LossdEngine
import LossdPluginHost
import LossdServer
import LossdTensor

/// What `plugin check` and `plugin install` try a plugin with: what a daemon has, with its
/// defaults.
struct PluginTryOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The daemon's plugins.load_timeout: how long the plugin may take to load.",
      valueName: "seconds"))
  var loadTimeout: Double?
  @Option(
    help: ArgumentHelp(
      "The daemon's limits.callback_timeout: how long a callback may take.", valueName: "seconds"))
  var callbackTimeout: Double?

  func validate() throws {
    for (name, value) in [
      ("--load-timeout", loadTimeout), ("--callback-timeout", callbackTimeout),
    ] {
      guard let value, !(0.001...86_400 ~= value) else { continue }
      throw ValidationError("\(name) is \(value), expected 0.001 to 86400 seconds")
    }
  }

  /// Loads a file in a process as a daemon does, beside the built-in functions. Throws the daemon's
  /// refusal.
  /// - Parameter path: what texts call the file: `copy` may be a copy of it.
  func probe(_ copy: String, as path: String) throws(StatusError) -> PluginProbe {
    var settings = IsolationSettings()
    settings.threads = max(Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))), 1)
    var limits = PluginProbe.Limits()
    let server = ServerLimits()
    limits.callbackTimeout = server.callbackTimeout
    limits.resultBytesMax = Int(clamping: server.connectionBytesMax)
    if let loadTimeout { settings.loadTimeout = UInt64(loadTimeout * 1e9) }
    if let callbackTimeout { limits.callbackTimeout = UInt64(callbackTimeout * 1e9) }
    let registry = Registry()
    try registry.add(cataloguePlugin())
    do throws(StatusError) {
      return try PluginProbe(copy, into: registry, settings, limits) { printError("plugin: \($0)") }
    } catch {
      // The file's own name, not the copy's, which is gone by the time it is read.
      let parts = error.message.split(separator: copy, omittingEmptySubsequences: false)
      throw StatusError(error.code, parts.joined(separator: path))
    }
  }
}
