import Glibc
import LossdEngine

/// One plugin, as people want to see it.
public struct PluginInfo: Sendable, Equatable {
  public var name: String
  public var version: String
  /// The file it is from; empty for the program's own.
  public var file: String
  public var functions: [String]
  public var placement = Placement.daemon
  /// `serving`; `restarting` or `set aside` after crashes, or callbacks that do not return;
  /// `pinned`: unloaded, but still in memory; `refused`: a file that was not loaded, named after
  /// its file.
  public var state = "serving"
  /// Processes that were started again after one had died.
  public var restarts = 0
  /// Why the last one had, or why it is set aside, pinned or refused.
  public var lastReason = ""
  /// When its file was loaded, or refused for the first time as it is: milliseconds since 1970; 0:
  /// not known.
  public var since: Int64 = 0
  /// Process ids.
  public var processes: [Int32] = []

  public init(name: String, version: String, file: String, functions: [String]) {
    self.name = name
    self.version = version
    self.file = file
    self.functions = functions
  }
}

/// A file that was not loaded.
struct Refusal {
  /// Bytes of the reason that are shown.
  private static let reasonBytesMax = 1000

  var identity: PluginFile.Identity
  /// It was refused for what another plugin has: it is tried again when that has gone.
  var isClash: Bool
  var reason: String
  /// When it was refused first, as it is and for this reason: milliseconds since 1970.
  var since: Int64
  /// It is tried again with the next look at the folders.
  var isDue = false
  /// The next time that it is refused, it is logged whatever the reason is.
  var isToldAgain = false

  func info(_ path: String) -> PluginInfo {
    let file = splitPath(path).file
    var info = PluginInfo(
      name: file.hasSuffix(".so") ? String(file.dropLast(3)) : file, version: "", file: path,
      functions: [])
    info.state = "refused"
    info.since = since
    let reason = reason.hasPrefix(path + ": ") ? reason.dropFirst(path.count + 2) : reason[...]
    info.lastReason = PluginLog.harmless(reason.utf8.prefix(Refusal.reasonBytesMax))
    return info
  }
}

/// The time of day.
enum WallClock {
  /// Milliseconds since 1970.
  static var now: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
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
  /// When it was loaded, milliseconds since 1970.
  let since = WallClock.now

  func info(functions: [String]) -> PluginInfo {
    var info = PluginInfo(name: name, version: version, file: path, functions: functions)
    info.placement = placement
    info.since = since
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
