import CLossdPlugin
import Glibc
import LossdEngine
import LossdTensor
import LossdThreads
import Synchronization

/// The plugins of the configured folders. Any thread; one operation at a time.
public final class PluginManager: Sendable {
  private struct State {
    var loaded: [LoadedPlugin] = []
    /// Where an administrator wanted a file's plugin to run, whatever the policy says.
    var wanted: [String: Placement] = [:]
    /// Unloaded libraries that glibc does not let go.
    var pinned: [PluginInfo] = []
    /// Files that were refused, so that they are said once for each state of theirs.
    var refused: [String: PluginFile.Identity] = [:]
  }

  private let registry: Registry
  public let folders: [String]
  public let policy: PluginPolicy
  private let log: @Sendable (_ isError: Bool, _ text: String) -> Void
  private let crashes: CrashRecords
  private let state = Mutex(State())

  public init(
    _ registry: Registry, folders: [String], policy: PluginPolicy = PluginPolicy(),
    log: @escaping @Sendable (_ isError: Bool, _ text: String) -> Void
  ) {
    self.registry = registry
    self.folders = folders
    self.policy = policy
    self.log = log
    crashes = CrashRecords(file: policy.crashFile)
  }

  /// Everything that is loaded, the program's own plugins first, and what glibc keeps in memory.
  public var plugins: [PluginInfo] {
    let entries = registry.table.entries
    var own: [PluginInfo] = []
    for entry in entries where entry.owner == nil {
      if let index = own.firstIndex(where: { $0.name == entry.plugin }) {
        own[index].functions.append(entry.name)
      } else {
        own.append(
          PluginInfo(
            name: entry.plugin, version: entry.pluginVersion, file: "", functions: [entry.name]))
      }
    }
    let (loaded, pinned) = state.withLock { ($0.loaded, $0.pinned) }
    let others = loaded.map { info($0, entries) }
    return own.sorted { $0.name < $1.name } + (others + pinned).sorted { $0.name < $1.name }
  }

  private func info(_ plugin: LoadedPlugin, _ entries: [FunctionEntry]) -> PluginInfo {
    plugin.info(functions: entries.filter { $0.owner === plugin.owner }.map(\.name))
  }

  /// Loads a file of the configured folders by its name, `focal.so`; reloads it when it is loaded. `placement`:
  /// where it is to run from now on, nil: where the policy says.
  public func load(
    _ file: String, placement: Placement? = nil
  ) throws(StatusError) -> PluginInfo {
    let path = try find(file)
    return try locked { (state) throws(StatusError) in
      let before = state.wanted[path]
      state.wanted[path] = placement
      do throws(StatusError) {
        return try self.open(path, replacing: state.loaded.first { $0.path == path }, &state)
      } catch {
        state.wanted[path] = before
        throw error
      }
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
      state.wanted[old.path] = nil
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
      for plugin in state.loaded where !present.contains(plugin.path) {
        state.wanted[plugin.path] = nil
        drop(plugin, &state)
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
    _ path: String, replacing old: LoadedPlugin?, _ state: inout State
  ) throws(StatusError) -> PluginInfo {
    let plugin = try open(path, state.wanted[path] ?? policy.placement(path))
    try registry.replace(old?.owner, with: plugin.descriptor, owner: plugin.loaded.owner)
    if let old { state.loaded.removeAll { $0.owner === old.owner } }
    state.loaded.append(plugin.loaded)
    state.refused[path] = nil
    let (name, version) = (plugin.loaded.name, plugin.loaded.version)
    log(
      false,
      "\(old == nil ? "loaded" : "reloaded") plugin \(name) \(version) from \(path)"
        + (plugin.loaded.placement == .process ? ", in a process of its own" : ""))
    return info(plugin.loaded, registry.table.entries)
  }

  private struct Opened {
    var loaded: LoadedPlugin
    var descriptor: UnsafePointer<lossd_plugin>
  }

  private func open(_ path: String, _ placement: Placement) throws(StatusError) -> Opened {
    let file = try PluginFile(path, pin: policy.pins[splitPath(path).file])
    let identity = file.identity
    // Its code runs in a process of its own first, whatever comes then: a library that crashes, hangs or exits while
    // it is loaded does so there.
    let copy = dup(file.descriptor)
    defer { if copy >= 0 { _ = close(copy) } }
    let isolated = try IsolatedPlugin(file, policy.processes)
    let plugin = isolated.image.plugin.pointee
    let (name, version) = (String(cString: plugin.name), String(cString: plugin.version))
    var placement = placement
    if placement == .daemon,
      let crash = crashes.last(
        plugin: name, version: version, fileChanged: identity.modified / 1_000_000_000)
    {
      placement = .process
      log(
        true,
        "\(path): the daemon has ended by \(crash.what) in \(crash.place): it runs in a process of its own until "
          + "its file changes")
    }
    var owner: any FunctionOwner = isolated
    var descriptor = isolated.image.plugin
    if placement == .daemon {
      let library = try PluginLibrary(copy: dup(copy), path: path) { [weak self] in
        self?.notePinned(name, version, path)
      }
      owner = library
      descriptor = library.plugin
    }
    return Opened(
      loaded: LoadedPlugin(
        owner: owner, name: name, version: version, path: path, identity: identity,
        placement: placement), descriptor: descriptor)
  }

  private func notePinned(_ name: String, _ version: String, _ path: String) {
    var info = PluginInfo(name: name, version: version, file: path, functions: [])
    info.state = "pinned"
    let note = info
    // Not here: a library may be closed by who holds the lock.
    startThread { [self] in
      state.withLock { $0.pinned.append(note) }
      log(
        false,
        "plugin \(name) \(version) is unloaded, but glibc keeps it in memory: it has unique symbols or thread "
          + "destructors")
    }
  }

  private func drop(_ plugin: LoadedPlugin, _ state: inout State) {
    registry.remove(plugin.owner)
    state.loaded.removeAll { $0.owner === plugin.owner }
    log(false, "unloaded plugin \(plugin.name) \(plugin.version)")
  }

  private func loaded(_ name: String, _ state: State) throws(StatusError) -> LoadedPlugin {
    let found = state.loaded.first { $0.name == name || splitPath($0.path).file == name }
    if let found { return found }
    if registry.table.entries.contains(where: { $0.plugin == name && $0.owner == nil }) {
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

  /// Opens a file as the daemon would, in this process, and closes it again: `lossctl plugin check`.
  public static func check(_ path: String) throws(StatusError) -> PluginInfo {
    try load(path, into: Registry())
  }

  /// Opens a file in this process and adds its functions: for programs that evaluate without a daemon.
  public static func load(
    _ path: String, into registry: Registry
  ) throws(StatusError) -> PluginInfo {
    let library = try PluginLibrary(try PluginFile(path))
    try registry.add(library.plugin, owner: library)
    return PluginInfo(
      name: library.name, version: library.version, file: path,
      functions: registry.table.entries.filter { $0.owner === library }.map(\.name))
  }
}
