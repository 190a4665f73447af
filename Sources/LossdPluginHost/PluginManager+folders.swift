import Glibc
import LossdEngine
import LossdTensor

extension PluginManager {
  /// Makes what is loaded agree with the folders: new files are loaded, changed ones reloaded,
  /// removed ones unloaded. Returns whether a file is still changing and another look is needed
  /// soon.
  /// - Parameter again: files that were refused before are tried again as well.
  @discardableResult
  public func scan(again: Bool = false) -> Bool {
    if again {
      state.withLock { state in
        for path in state.refused.keys {
          state.refused[path]?.isDue = true
          state.refused[path]?.isToldAgain = true
        }
      }
    }
    var isChanging = false
    for (path, identity) in candidates() {
      if isFresh(identity) {
        isChanging = true
      } else {
        look(path, identity)
      }
    }
    try? inTurn { () throws(StatusError) in
      // As it is now: files may have come, and been loaded, since the folders were read.
      func isThere(_ path: String) -> Bool { PluginFile.identity(path) != nil }
      let gone = state.withLock { state in
        // As it was refused: the version before may be back.
        state.refused = state.refused.filter { PluginFile.identity($0.key) == $0.value.identity }
        state.unloaded = state.unloaded.filter { isThere($0.key) }
        state.wanted = state.wanted.filter { isThere($0.key) }
        return state.loaded.filter { !isThere($0.path) }
      }
      for plugin in gone { drop(plugin) }
      // What they stood in the way of is tried again.
      if state.withLock({ $0.refused.values.contains { $0.isDue } }) { isChanging = true }
    }
    return isChanging
  }

  /// The files of all folders in the order in which they are looked at: of two with the same
  /// plugin, or with functions of the same name, the first is loaded, so that after a restart it is
  /// the same again. By the time when they were written, then by name, then by folder.
  private func candidates() -> [(path: String, identity: PluginFile.Identity)] {
    var found: [(path: String, name: String, folder: Int, identity: PluginFile.Identity)] = []
    for (index, folder) in folders.enumerated() {
      for name in PluginManager.files(folder) {
        let path = folder + "/" + name
        guard let identity = PluginFile.identity(path) else { continue }
        found.append((path, name, index, identity))
      }
    }
    found.sort {
      ($0.identity.modified, $0.name, $0.folder) < ($1.identity.modified, $1.name, $1.folder)
    }
    return found.map { ($0.path, $0.identity) }
  }

  /// A file that was written a moment ago may still be.
  private func isFresh(_ identity: PluginFile.Identity) -> Bool {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let age = now.tv_sec * 1_000_000_000 + now.tv_nsec - identity.modified
    return age >= 0 && age < 300_000_000
  }

  private func look(_ path: String, _ identity: PluginFile.Identity) {
    try? inTurn { () throws(StatusError) in
      let isKnown = state.withLock { state in
        let isSettled =
          state.loaded.first { $0.path == path }?.identity.hasBytes(of: identity) ?? false
          || state.unloaded[path]?.hasBytes(of: identity) ?? false
        // As it is, it is not tried.
        if isSettled { state.refused[path]?.isDue = false }
        return isSettled
          || state.refused[path].map { $0.identity == identity && !$0.isDue } ?? false
      }
      if isKnown { return }
      do throws(StatusError) { _ = try open(path) } catch { refuse(path, identity, error) }
    }
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

  /// Opens a file in this process and adds its functions: for programs that evaluate without a
  /// daemon.
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
