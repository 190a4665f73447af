/// The methods of the daemon's services, by their gRPC paths.
enum Method: CaseIterable {
  case evaluate, evaluateStream, listFunctions, getStatus
  case listPlugins, loadPlugin, reloadPlugin, unloadPlugin

  private static let evaluatePath: StaticString = "/lossd.v1.Evaluator/Evaluate"
  private static let evaluateStreamPath: StaticString = "/lossd.v1.Evaluator/EvaluateStream"
  private static let listFunctionsPath: StaticString = "/lossd.v1.Evaluator/ListFunctions"
  private static let getStatusPath: StaticString = "/lossd.v1.Daemon/GetStatus"
  private static let listPluginsPath: StaticString = "/lossd.v1.PluginHost/ListPlugins"
  private static let loadPluginPath: StaticString = "/lossd.v1.PluginHost/LoadPlugin"
  private static let reloadPluginPath: StaticString = "/lossd.v1.PluginHost/ReloadPlugin"
  private static let unloadPluginPath: StaticString = "/lossd.v1.PluginHost/UnloadPlugin"
  private static let pluginHostPrefix: StaticString = "/lossd.v1.PluginHost/"

  var path: StaticString {
    switch self {
    case .evaluate: Method.evaluatePath
    case .evaluateStream: Method.evaluateStreamPath
    case .listFunctions: Method.listFunctionsPath
    case .getStatus: Method.getStatusPath
    case .listPlugins: Method.listPluginsPath
    case .loadPlugin: Method.loadPluginPath
    case .reloadPlugin: Method.reloadPluginPath
    case .unloadPlugin: Method.unloadPluginPath
    }
  }

  var name: String { "\(path)" }

  /// Whether requests and responses are streams.
  var isStreaming: Bool { self == .evaluateStream }

  /// Does not allocate.
  init?(_ path: UnsafeRawBufferPointer) {
    if path.equals(Method.evaluatePath) {
      self = .evaluate
    } else if path.equals(Method.evaluateStreamPath) {
      self = .evaluateStream
    } else if path.equals(Method.listFunctionsPath) {
      self = .listFunctions
    } else if path.equals(Method.getStatusPath) {
      self = .getStatus
    } else if path.equals(Method.listPluginsPath) {
      self = .listPlugins
    } else if path.equals(Method.loadPluginPath) {
      self = .loadPlugin
    } else if path.equals(Method.reloadPluginPath) {
      self = .reloadPlugin
    } else if path.equals(Method.unloadPluginPath) {
      self = .unloadPlugin
    } else {
      return nil
    }
  }

  /// Whether it belongs to a service that only the admin socket offers.
  static func isForAdmins(_ path: UnsafeRawBufferPointer) -> Bool {
    let prefix = pluginHostPrefix
    guard path.count >= prefix.utf8CodeUnitCount else { return false }
    return UnsafeRawBufferPointer(rebasing: path.prefix(prefix.utf8CodeUnitCount)).equals(prefix)
  }
}

extension UnsafeRawBufferPointer {
  func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    for index in 0..<count where self[index] != text.utf8Start[index] { return false }
    return true
  }
}
