import LossdTensor

/// Where a plugin's functions run.
public enum Placement: String, Sendable {
  /// In the daemon itself.
  case daemon
  /// In processes of their own.
  case process
}

/// What an administrator decided about plugins. Files are named by their last component,
/// `quality_focal.so`.
public struct PluginPolicy: Sendable {
  public enum Isolation: String, Sendable {
    /// A plugin of the daemon's own folder runs in the daemon, any other in a process of its own.
    case auto
    case process
    case none
  }

  public var isolation = Isolation.auto
  /// The folder whose plugins came with the daemon.
  public var ownFolder = ""
  /// Files that run in the daemon, and files that do not, whatever `isolation` says.
  public var inDaemon: [String] = []
  public var inProcess: [String] = []
  /// SHA-256 checksums, hexadecimal, that files must have.
  public var pins: [String: String] = [:]
  public var processes = IsolationSettings()
  /// Where crashes of the daemon are recorded; empty: nowhere.
  public var crashFile = ""

  public init() {}

  func placement(_ path: String) -> Placement {
    let (folder, file) = splitPath(path)
    if inProcess.contains(file) { return .process }
    if inDaemon.contains(file) { return .daemon }
    switch isolation {
    case .auto: return !ownFolder.isEmpty && folder == ownFolder ? .daemon : .process
    case .process: return .process
    case .none: return .daemon
    }
  }
}

/// A path's folder and its last component.
func splitPath(_ path: String) -> (folder: String, file: String) {
  guard let slash = path.lastIndex(of: "/") else { return ("", path) }
  return (String(path[..<slash]), String(path[path.index(after: slash)...]))
}
