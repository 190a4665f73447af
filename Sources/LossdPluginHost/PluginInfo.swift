import LossdEngine

/// One plugin, as people want to see it.
public struct PluginInfo: Sendable, Equatable {
  public var name: String
  public var version: String
  /// The file it is from; empty for the program's own.
  public var file: String
  public var functions: [String]
  public var placement = Placement.daemon
  /// `serving`; `restarting` or `set aside` after crashes, or callbacks that do not return; `pinned`: unloaded, but still
  /// in memory.
  public var state = "serving"
  /// Processes that were started again after one had died.
  public var restarts = 0
  /// Why the last one had, or why it is set aside or pinned.
  public var lastReason = ""
  /// Process ids.
  public var processes: [Int32] = []

  public init(name: String, version: String, file: String, functions: [String]) {
    self.name = name
    self.version = version
    self.file = file
    self.functions = functions
  }
}

/// A plugin of a file, as the manager keeps it.
struct LoadedPlugin {
  var owner: any FunctionOwner
  var name: String
  var version: String
  var path: String
  var identity: PluginFile.Identity
  var placement: Placement

  func info(functions: [String]) -> PluginInfo {
    var info = PluginInfo(name: name, version: version, file: path, functions: functions)
    info.placement = placement
    if let isolated = owner as? IsolatedPlugin {
      let condition = isolated.condition
      info.state = condition.state
      info.restarts = condition.restarts
      info.lastReason = condition.lastReason
      info.processes = condition.processes
    }
    if let library = owner as? PluginLibrary, library.lostCallbacks > 0 {
      if library.lostCallbacks >= PluginLibrary.lostCallbacksMax { info.state = "set aside" }
      info.lastReason = "\(library.lostCallbacks) callbacks have not returned"
    }
    return info
  }
}
