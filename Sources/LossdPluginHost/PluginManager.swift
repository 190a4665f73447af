import Glibc
import LossdEngine
import LossdTensor
import Synchronization

/// One plugin, as people want to see it.
public struct PluginInfo: Sendable, Equatable {
  public var name: String
  public var version: String
  /// The file it is from; empty for the program's own.
  public var file: String
  public var functions: [String]
}

/// The plugins of the configured folders. Any thread; one operation at a time.
public final class PluginManager: Sendable {
  private struct State {
    var loaded: [PluginLibrary] = []
    /// Files that were refused, so that they are said once for each state of theirs.
    var refused: [String: PluginFile.Identity] = [:]
  }

  private let registry: Registry
  public let folders: [String]
  private let log: @Sendable (_ isError: Bool, _ text: String) -> Void
  private let state = Mutex(State())

  public init(
    _ registry: Registry, folders: [String],
    log: @escaping @Sendable (_ isError: Bool, _ text: String) -> Void
  ) {
    self.registry = registry
    self.folders = folders
    self.log = log
  }

  /// Everything that is loaded, the program's own plugin first.
  public var plugins: [PluginInfo] {
    var infos: [PluginInfo] = []
    var owned: [(owner: (any FunctionOwner)?, index: Int)] = []
    for entry in registry.table.entries {
      let found = owned.first { $0.owner === entry.owner && infos[$0.index].name == entry.plugin }
      if let found {
        infos[found.index].functions.append(entry.name)
      } else {
        let file = (entry.owner as? PluginLibrary)?.path ?? ""
        owned.append((entry.owner, infos.count))
        infos.append(
          PluginInfo(
            name: entry.plugin, version: entry.pluginVersion, file: file, functions: [entry.name]))
      }
    }
    return infos.sorted { ($0.file.isEmpty ? 0 : 1, $0.name) < ($1.file.isEmpty ? 0 : 1, $1.name) }
  }

  /// Loads a file of the configured folders by its name, `focal.so`; reloads it when it is loaded.
  public func load(_ file: String) throws(StatusError) -> PluginInfo {
    let path = try find(file)
    return try locked { (state) throws(StatusError) in
      try self.open(path, replacing: state.loaded.first { $0.path == path }, &state)
    }
  }

  /// Loads a plugin's file again, by the plugin's name or the file's.
  public func reload(_ name: String) throws(StatusError) -> PluginInfo {
    try locked { (state) throws(StatusError) in
      let old = try self.loaded(name, state)
      return try self.open(old.path, replacing: old, &state)
    }
  }

  /// Removes a plugin's functions; its library is closed after the last call.
  public func unload(_ name: String) throws(StatusError) {
    try locked { (state) throws(StatusError) in
      let old = try self.loaded(name, state)
      // As long as the file stays as it is, the watcher does not load it again.
      state.refused[old.path] = old.identity
      self.drop(old, &state)
    }
  }

  /// Makes what is loaded agree with the folders: new files are loaded, changed ones reloaded, removed ones
  /// unloaded. Returns whether a file is still changing and another look is needed soon.
  @discardableResult
  public func scan() -> Bool {
    var isChanging = false
    var present: Set<String> = []
    for folder in folders {
      for name in PluginManager.files(folder) {
        let path = folder + "/" + name
        present.insert(path)
        guard let identity = PluginFile.identity(path) else { continue }
        if isFresh(identity) {
          isChanging = true
          continue
        }
        look(path, identity)
      }
    }
    state.withLock { state in
      for library in state.loaded where !present.contains(library.path) {
        drop(library, &state)
      }
      state.refused = state.refused.filter { present.contains($0.key) }
    }
    return isChanging
  }

  // MARK: - Steps

  /// A file that was written a moment ago may still be.
  private func isFresh(_ identity: PluginFile.Identity) -> Bool {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let age = now.tv_sec * 1_000_000_000 + now.tv_nsec - identity.modified
    return age >= 0 && age < 300_000_000
  }

  private func look(_ path: String, _ identity: PluginFile.Identity) {
    state.withLock { state in
      let old = state.loaded.first { $0.path == path }
      if old?.identity == identity || state.refused[path] == identity { return }
      do throws(StatusError) {
        _ = try open(path, replacing: old, &state)
      } catch {
        state.refused[path] = identity
        log(true, error.message + (old == nil ? "" : "; the version before goes on serving"))
      }
    }
  }

  private func open(
    _ path: String, replacing old: PluginLibrary?, _ state: inout State
  ) throws(StatusError) -> PluginInfo {
    let library = try PluginLibrary(path: path)
    try registry.replace(old, with: library.plugin, owner: library)
    state.loaded.removeAll { $0 === old }
    state.loaded.append(library)
    state.refused[path] = nil
    log(
      false,
      "\(old == nil ? "loaded" : "reloaded") plugin \(library.name) \(library.version) from \(path)"
    )
    return info(library)
  }

  private func drop(_ library: PluginLibrary, _ state: inout State) {
    registry.remove(library)
    state.loaded.removeAll { $0 === library }
    log(false, "unloaded plugin \(library.name) \(library.version)")
  }

  private func info(_ library: PluginLibrary) -> PluginInfo {
    plugins.first { $0.file == library.path && $0.name == library.name }
      ?? PluginInfo(
        name: library.name, version: library.version, file: library.path, functions: [])
  }

  private func loaded(_ name: String, _ state: State) throws(StatusError) -> PluginLibrary {
    let found = state.loaded.first {
      $0.name == name || $0.path.split(separator: "/").last.map(String.init) == name
    }
    if let found { return found }
    if plugins.contains(where: { $0.name == name && $0.file.isEmpty }) {
      throw StatusError(.failedPrecondition, "the plugin \(name) is a part of the daemon")
    }
    throw StatusError(.notFound, "no plugin named \(name) is loaded")
  }

  private func find(_ file: String) throws(StatusError) -> String {
    guard !file.isEmpty, !file.contains("/"), !file.hasPrefix(".") else {
      throw StatusError(
        .invalidArgument, "`\(file)` is not the name of a file in the plugin folders")
    }
    for folder in folders where PluginFile.identity(folder + "/" + file) != nil {
      return folder + "/" + file
    }
    throw StatusError(
      .notFound,
      "no file \(file) in "
        + (folders.isEmpty ? "the plugin folders: there are none" : folders.joined(separator: ", "))
    )
  }

  private func locked<Result>(
    _ body: (inout State) throws(StatusError) -> Result
  ) throws(StatusError) -> Result {
    try state.withLock { (state) throws(StatusError) in try body(&state) }
  }

  /// Names of the libraries in a folder, sorted.
  static func files(_ folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasSuffix(".so") && !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
  }

  /// Opens a file as the daemon would, and closes it again: `lossctl plugin check`.
  public static func check(_ path: String) throws(StatusError) -> PluginInfo {
    let registry = Registry()
    let library = try PluginLibrary(path: path)
    try registry.add(library.plugin, owner: library)
    return PluginInfo(
      name: library.name, version: library.version, file: path,
      functions: registry.table.entries.map(\.name))
  }
}
