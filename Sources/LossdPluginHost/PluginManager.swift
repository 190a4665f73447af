import CLinux
import CLossdPlugin
import Glibc
import LossdEngine
import LossdTensor
import Synchronization

/// The plugins of the configured folders. Any thread; one operation at a time, while anybody may
/// look.
public final class PluginManager: Sendable {
  struct State {
    var loaded: [LoadedPlugin] = []
    /// Where an administrator wanted a file's plugin to run, whatever the policy says.
    var wanted: [String: Placement] = [:]
    /// Files that were refused, so that each is said once for each state of its, and listed.
    var refused: [String: Refusal] = [:]
    /// Files whose plugins an administrator has unloaded: as they are, they are not loaded by
    /// themselves.
    var unloaded: [String: PluginFile.Identity] = [:]
  }

  let registry: Registry
  public let folders: [String]
  public let policy: PluginPolicy
  let log: @Sendable (_ isError: Bool, _ text: String) -> Void
  private let crashes: CrashRecords
  private let closer: LibraryCloser
  private let pinned: PinnedPlugins
  private let onIsolated: Mutex<@Sendable (IsolatedPlugin) -> Void> = Mutex({ _ in })
  private let onDue: Mutex<@Sendable () -> Void> = Mutex({})
  /// Held by the operation under way, which may take as long as a plugin takes to load.
  private let turn = Mutex(())
  /// Held for moments.
  let state = Mutex(State())

  public init(
    _ registry: Registry, folders: [String], policy: PluginPolicy = PluginPolicy(),
    log: @escaping @Sendable (_ isError: Bool, _ text: String) -> Void
  ) {
    self.registry = registry
    self.folders = folders.map { folder in
      var folder = folder
      while folder.hasSuffix("/") && folder.count > 1 { folder.removeLast() }
      return folder
    }
    self.policy = policy
    self.log = log
    crashes = CrashRecords(file: policy.crashFile)
    let pinned = PinnedPlugins()
    self.pinned = pinned
    closer = LibraryCloser { name, version, path, reason in
      pinned.add(name, version, path, reason)
      log(false, "plugin \(name) \(version) is unloaded, but stays in memory: \(reason)")
    }
  }

  /// Asked before a library is unmapped, on a thread of its own: whether no thread that has run
  /// callbacks has anything of a library's left.
  public func setMayUnmap(_ mayUnmap: @escaping @Sendable () -> Bool) {
    closer.setMayUnmap(mayUnmap)
  }

  /// Called when a plugin has been loaded that runs in processes of its own, on the thread that
  /// loaded it.
  public func setOnIsolated(_ action: @escaping @Sendable (IsolatedPlugin) -> Void) {
    onIsolated.withLock { $0 = action }
  }

  /// Called, on any thread, when a look at the folders is due without any change in them: a name
  /// has become free that a file was refused for.
  public func setOnDue(_ action: @escaping @Sendable () -> Void) {
    onDue.withLock { $0 = action }
  }

  /// Everything that is loaded, the program's own plugins first, what stays in memory though it is
  /// not, and files that were refused.
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
    let (loaded, refused) = state.withLock { ($0.loaded, $0.refused) }
    let others = loaded.map { info($0, entries) }
    return own.sorted { $0.name < $1.name } + (others + pinned.infos).sorted { $0.name < $1.name }
      + refused.map { $1.info($0) }.sorted { $0.file < $1.file }
  }

  private func info(_ plugin: LoadedPlugin, _ entries: [FunctionEntry]) -> PluginInfo {
    plugin.info(functions: entries.filter { $0.owner === plugin.owner }.map(\.name))
  }

  // MARK: - Operations

  /// Loads a file of the configured folders by its name, `quality_focal.so`; reloads it when it is
  /// loaded. `placement`: where it is to run from now on, nil: where the policy says.
  public func load(
    _ file: String, placement: Placement? = nil
  ) throws(StatusError) -> PluginInfo {
    let path = try find(file)
    return try inTurn { () throws(StatusError) in
      let before = state.withLock { state in
        defer { state.wanted[path] = placement }
        return state.wanted[path]
      }
      do throws(StatusError) { return try openAsked(path) } catch {
        state.withLock { $0.wanted[path] = before }
        throw error
      }
    }
  }

  /// Says why not in the log, too, and once: as it is, the file is not tried by itself.
  private func openAsked(_ path: String) throws(StatusError) -> PluginInfo {
    let identity = PluginFile.identity(path)
    do throws(StatusError) { return try open(path) } catch {
      if let identity { refuse(path, identity, error, isAsked: true) }
      throw error
    }
  }

  /// - Parameter isAsked: somebody wanted it: the log says why not even if it has said so before.
  func refuse(
    _ path: String, _ identity: PluginFile.Identity, _ error: StatusError, isAsked: Bool = false
  ) {
    let news: String? = state.withLock { state in
      let isServing = state.loaded.contains { $0.path == path }
      let reason = error.message + (isServing ? "; the version before goes on serving" : "")
      let before = state.refused[path].flatMap {
        $0.identity == identity && $0.reason == reason ? $0 : nil
      }
      state.refused[path] = Refusal(
        identity: identity, isClash: error.code == .alreadyExists, reason: reason,
        since: before?.since ?? WallClock.now)
      return before == nil || isAsked || before?.isToldAgain ?? false ? reason : nil
    }
    if let news { log(true, news) }
  }

  /// What was refused for names of others is tried again.
  private func retryClashes() {
    let isDue = state.withLock { state in
      let paths = state.refused.filter { $0.value.isClash }.map(\.key)
      for path in paths { state.refused[path]?.isDue = true }
      return !paths.isEmpty
    }
    if isDue { onDue.withLock { $0 }() }
  }

  /// Loads a plugin's file again, by the plugin's name or the file's.
  public func reload(_ name: String) throws(StatusError) -> PluginInfo {
    try inTurn { () throws(StatusError) in try openAsked(try loaded(name).path) }
  }

  /// Removes a plugin's functions; its library is closed after the last call.
  public func unload(_ name: String) throws(StatusError) {
    try inTurn { () throws(StatusError) in
      let old = try loaded(name)
      state.withLock { state in
        state.unloaded[old.path] = old.identity
        state.wanted[old.path] = nil
      }
      drop(old)
    }
  }

  /// Stops every plugin, at most for so many nanoseconds: the daemon is about to end.
  public func close(within nanoseconds: UInt64) {
    let plugins = state.withLock { state in
      defer { state.loaded.removeAll() }
      return state.loaded
    }
    for plugin in plugins { registry.remove(plugin.owner) }
    withExtendedLifetime(plugins) {}
    for label in closer.wait(nanoseconds: nanoseconds) {
      log(true, "plugin \(label) has not stopped: the daemon ends without waiting for it")
    }
  }

  func inTurn<Result>(
    _ body: () throws(StatusError) -> Result
  ) throws(StatusError) -> Result {
    try turn.withLock { (_) throws(StatusError) in try body() }
  }

  // MARK: - Steps, in turn

  /// Opens a file and exchanges the functions that came from it before, if any, for its own.
  /// Nothing has changed when it throws.
  func open(_ path: String) throws(StatusError) -> PluginInfo {
    do throws(StatusError) { return try openUnnamed(path) } catch {
      throw PluginManager.naming(path, error)
    }
  }

  /// What is wrong with a plugin is of no use without its file.
  static func naming(_ path: String, _ error: StatusError) -> StatusError {
    if error.message.hasPrefix(path) { return error }
    return StatusError(error.code, "\(path): \(error.message)")
  }

  private func openUnnamed(_ path: String) throws(StatusError) -> PluginInfo {
    let placement = state.withLock { $0.wanted[path] } ?? policy.placement(path)
    let plugin = try opened(path, placement)
    let (name, version) = (plugin.loaded.name, plugin.loaded.version)
    let others = state.withLock { $0.loaded }
    // A file that was renamed is the same plugin.
    let old =
      others.first { $0.path == path }
      ?? others.first { $0.name == name && PluginFile.identity($0.path) == nil }
    if let other = others.first(where: { $0.name == name && $0.owner !== old?.owner }) {
      throw StatusError(
        .alreadyExists, "\(path): the plugin \(name) is loaded already, from \(other.path)")
    }
    try registry.checkFree(plugin: name, path)
    try registry.replace(old?.owner, with: plugin.descriptor, owner: plugin.loaded.owner)
    state.withLock { state in
      state.loaded.removeAll { $0.owner === old?.owner }
      state.loaded.append(plugin.loaded)
      state.refused[path] = nil
      state.unloaded[path] = nil
    }
    nameSuspects()
    // The version before may have had names that this one has not.
    if old != nil { retryClashes() }
    if let isolated = plugin.loaded.owner as? IsolatedPlugin {
      onIsolated.withLock { $0 }(isolated)
    }
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

  private func opened(_ path: String, _ wanted: Placement) throws(StatusError) -> Opened {
    let file = try PluginFile(path, pin: policy.pins[splitPath(path).file])
    let identity = file.identity
    let copy = fcntl(file.descriptor, F_DUPFD_CLOEXEC, 3)
    defer { if copy >= 0 { _ = Glibc.close(copy) } }
    // Its code runs in a process of its own first, whatever comes then: a library that crashes,
    // hangs or exits while it is loaded does so there.
    let isolated = try IsolatedPlugin(
      file, policy.processes, log: { [log] in log(false, "\(path), being loaded: \($0)") },
      warn: { [log] in log(true, $0) })
    let plugin = isolated.image.plugin.pointee
    let (name, version) = (String(cString: plugin.name), String(cString: plugin.version))
    var placement = placement(wanted, name, version, path, identity)
    if placement == .daemon, let handle = isolated.takeSpare(),
      let reason = PluginTrial.rehearseEnd(
        handle, staysMapped: isolated.startsThreads, policy.processes)
    {
      placement = .process
      isolated.processEnded(handle.pid, reason: nil)
      log(
        true,
        "\(path): \(PluginTrial.unfit(reason))"
      )
    }
    var owner: any FunctionOwner = isolated
    var descriptor = isolated.image.plugin
    if placement == .daemon {
      let library = try PluginLibrary(
        copy: fcntl(copy, F_DUPFD_CLOEXEC, 3), path: path,
        activity: "plugin \(name) \(version), being loaded", staysMapped: isolated.startsThreads,
        closer: closer)
      owner = library
      descriptor = library.plugin
    }
    return Opened(
      loaded: LoadedPlugin(
        owner: owner, name: name, version: version, path: path, identity: identity,
        placement: placement), descriptor: descriptor)
  }

  /// Where it runs: not in the daemon once this version of it, in this file, has ended the daemon.
  private func placement(
    _ wanted: Placement, _ name: String, _ version: String, _ path: String,
    _ identity: PluginFile.Identity
  ) -> Placement {
    guard wanted == .daemon,
      let crash = crashes.last(
        plugin: name, version: version, fileChanged: identity.changed)
    else { return wanted }
    log(
      true,
      "\(path): the daemon has ended by \(crash.what) in \(crash.place): it runs in a process of "
        + "its own until its file changes")
    return .process
  }

  func drop(_ plugin: LoadedPlugin) {
    registry.remove(plugin.owner)
    state.withLock { $0.loaded.removeAll { $0.owner === plugin.owner } }
    nameSuspects()
    retryClashes()
    log(false, "unloaded plugin \(plugin.name) \(plugin.version)")
  }

  /// For the line that a crash of the daemon itself leaves.
  private func nameSuspects() {
    let names = state.withLock { $0.loaded }.filter { $0.placement == .daemon }
      .map { "\($0.name) \($0.version)" }
    // Never freed: a signal's handler may read it at any time.
    clinux_set_suspects(names.isEmpty ? nil : strdup(names.joined(separator: ", ")))
  }

  private func loaded(_ name: String) throws(StatusError) -> LoadedPlugin {
    let loaded = state.withLock { $0.loaded }
    if let found = loaded.first(where: { $0.name == name })
      ?? loaded.first(where: { splitPath($0.path).file == name })
    {
      return found
    }
    if registry.table.entries.contains(where: { $0.plugin == name && $0.owner == nil }) {
      throw StatusError(.failedPrecondition, "the plugin \(name) is a part of the daemon")
    }
    throw StatusError(
      .notFound, "no plugin named \(PluginLog.harmless(name.utf8.prefix(64))) is loaded")
  }

  private func find(_ file: String) throws(StatusError) -> String {
    guard !file.isEmpty, !file.contains("/"), !file.hasPrefix("."), !file.utf8.contains(0) else {
      throw StatusError(
        .invalidArgument,
        "`\(PluginLog.harmless(file.utf8.prefix(64)))` is not the name of a file in the plugin "
          + "folders"
      )
    }
    for folder in folders where PluginFile.identity(folder + "/" + file) != nil {
      return folder + "/" + file
    }
    throw StatusError(
      .notFound,
      "no file \(PluginLog.harmless(file.utf8.prefix(256))) in "
        + (folders.isEmpty ? "the plugin folders: there are none" : folders.joined(separator: ", "))
    )
  }
}

extension Registry {
  /// ALREADY_EXISTS where a plugin's name is that of a part of the daemon.
  func checkFree(plugin name: String, _ path: String) throws(StatusError) {
    if table.entries.contains(where: { $0.owner == nil && $0.plugin == name }) {
      throw StatusError(.alreadyExists, "\(path): the plugin \(name) is a part of the daemon")
    }
  }
}

/// Libraries that stay in memory after their unloading, one line for all of the same file and
/// version.
final class PinnedPlugins: Sendable {
  private struct Pinned {
    var info: PluginInfo
    var count = 1
  }
  private let list = Mutex<[Pinned]>([])

  func add(_ name: String, _ version: String, _ path: String, _ reason: String) {
    list.withLock { list in
      let index = list.firstIndex {
        $0.info.name == name && $0.info.version == version && $0.info.file == path
      }
      if let index {
        list[index].count += 1
        list[index].info.state = "pinned \(list[index].count) times"
        list[index].info.lastReason = reason
        return
      }
      var info = PluginInfo(name: name, version: version, file: path, functions: [])
      info.state = "pinned"
      info.lastReason = reason
      list.append(Pinned(info: info))
    }
  }

  var infos: [PluginInfo] { list.withLock { $0.map(\.info) } }
}
