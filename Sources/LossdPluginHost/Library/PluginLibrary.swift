import CLinux
import CLossdPlugin
import CPluginCalls
import Glibc
import LossdEngine
import LossdTensor
import Synchronization

/// An open library and its descriptor. Closed with the last reference: every function entry holds
/// one, and every call holds its entry.
///
/// `@unchecked Sendable`: immutable, but for a counter; the descriptor is by plugin.h's rules.
public final class PluginLibrary: FunctionOwner, @unchecked Sendable {
  /// Callbacks that did not return, beyond which its functions are refused: each costs a thread and
  /// its call's memory.
  public static let lostCallbacksMax = 8

  let plugin: UnsafePointer<lossd_plugin>
  let path: String
  private let handle: UnsafeMutableRawPointer
  private let descriptor: Int32
  private let closer: LibraryCloser
  /// Code of it may go on running on threads that it has started itself.
  private let staysMapped: Bool
  private let lost = Atomic<Int>(0)
  private let isTaken = Atomic<Bool>(false)

  public var isElsewhere: Bool { false }

  /// Opens the copy of a checked file and asks it for its plugin. FAILED_PRECONDITION with the
  /// reason.
  convenience init(_ file: consuming PluginFile) throws(StatusError) {
    var file = file
    let path = file.path
    try self.init(copy: file.take(), path: path)
  }

  /// Opens a library in sealed memory, whose descriptor it takes over; `path` is where it was
  /// copied from.
  /// - Parameters:
  ///   - activity: what a crash meanwhile is said to be in.
  ///   - staysMapped: it is never unmapped.
  ///   - closer: sees to its end.
  init(
    copy descriptor: Int32, path: String, activity: String = "a plugin that is being loaded",
    staysMapped: Bool = false, closer: LibraryCloser = .here
  ) throws(StatusError) {
    self.path = path
    self.descriptor = descriptor
    self.staysMapped = staysMapped
    self.closer = closer
    var failure: StatusError?
    var found: UnsafePointer<lossd_plugin>?
    var opened: UnsafeMutableRawPointer?
    let changed = PluginLibrary.watched(activity, closer.watch) {
      let copy = "/proc/self/fd/\(descriptor)"
      opened = dlopen(copy, RTLD_NOW | RTLD_LOCAL)
      guard let opened else {
        failure = PluginFile.refused(path, PluginLibrary.linkerText(copy))
        return
      }
      do throws(StatusError) { found = try PluginLibrary.entry(opened, path) } catch {
        failure = error
      }
    }
    if let changed, failure == nil {
      failure = PluginFile.refused(path, "loading it changed \(changed)")
    }
    guard let opened, let found, failure == nil else {
      _ = PluginLibrary.watched(activity, closer.watch) {
        if failure != nil, let found, found.pointee.stop != nil { plugincalls_stop(found) }
        if let opened { dlclose(opened) }
      }
      _ = close(descriptor)
      throw failure ?? PluginFile.refused(path, "it cannot be opened")
    }
    handle = opened
    plugin = found
  }

  /// Runs code of a library in this thread. Puts back what it changes of the thread and of what all
  /// threads share, and returns what that was, other than the floating-point mode.
  private static func watched(
    _ activity: String, _ watch: Int32, _ body: () -> Void
  ) -> String? {
    // First, since it changes the thread too.
    let isFirst = clinux_watch_thread(watch) != 0
    defer { if isFirst { clinux_unwatch_thread() } }
    let mode = clinux_float_mode()
    let habits = clinux_habits_save()
    activity.withCString { text in
      let before = clinux_set_activity(text)
      body()
      clinux_set_activity(before)
    }
    clinux_set_float_mode(mode)
    return clinux_habits_restore(habits).map { String(cString: $0) }
  }

  private static func entry(
    _ handle: UnsafeMutableRawPointer, _ path: String
  ) throws(StatusError) -> UnsafePointer<lossd_plugin> {
    guard let symbol = dlsym(handle, "lossd_plugin_entry") else {
      throw PluginFile.refused(path, "it does not export lossd_plugin_entry")
    }
    var error = lossd_error()
    error.struct_size = UInt32(MemoryLayout<lossd_error>.size)
    func text() -> String {
      withUnsafeBytes(of: error.text) { PluginLog.harmless($0.prefix { $0 != 0 }) }
    }
    guard let plugin = plugincalls_entry(symbol, hostTable, &error) else {
      throw PluginFile.refused(
        path, text().isEmpty ? "lossd_plugin_entry returned NULL" : text())
    }
    try checkDescriptor(plugin.pointee)
    if plugin.pointee.start != nil {
      if plugincalls_start(plugin, hostTable, &error) != LOSSD_OK {
        throw PluginFile.refused(path, "its start failed: \(text())")
      }
    }
    return plugin
  }

  deinit {
    if let end = takeEnd() { closer.close(end, name: name, version: version, path: path) }
  }

  /// What is left to be done with it; the first time. The caller sees to it, and nobody calls the
  /// plugin any more.
  func takeEnd() -> LibraryEnd? {
    if isTaken.exchange(true, ordering: .relaxed) { return nil }
    return LibraryEnd(
      plugin: plugin, handle: handle, descriptor: descriptor, staysMapped: staysMapped)
  }

  var name: String { String(cString: plugin.pointee.name) }
  var version: String { String(cString: plugin.pointee.version) }

  /// The dynamic linker's reason, without the path of the copy, which means nothing to anybody.
  private static func linkerText(_ copy: String) -> String {
    guard let text = dlerror() else { return "it cannot be opened" }
    var reason = String(cString: text)
    if reason.hasPrefix(copy + ": ") { reason.removeFirst(copy.count + 2) }
    if reason.contains("cannot open shared object file") {
      // Of a file that is there, but lies elsewhere, the linker says the same.
      reason +=
        "; a plugin may need libraries of \(Confinement.libraryFolders.joined(separator: ", ")) "
        + "alone, and $ORIGIN is no "
        + "folder, since the daemon opens a copy in memory: install the library there, or link it "
        + "statically"
    }
    return reason
  }

  // MARK: - Callbacks that do not return

  /// Callbacks that have not returned in time, and still have not.
  public var lostCallbacks: Int { lost.load(ordering: .relaxed) }

  /// One has not returned; holds what it uses for as long as it is away.
  public func callbackLost(using memory: AnyObject) -> AnyObject { LostCallback(self, memory) }

  private final class LostCallback {
    let library: PluginLibrary
    let memory: AnyObject

    init(_ library: PluginLibrary, _ memory: AnyObject) {
      self.library = library
      self.memory = memory
      library.lost.add(1, ordering: .relaxed)
    }

    deinit { library.lost.subtract(1, ordering: .relaxed) }
  }

  // MARK: - The end

  /// An open library that nobody uses any more.
  ///
  /// `@unchecked Sendable`: handed on to the one who closes it.
  struct LibraryEnd: @unchecked Sendable {
    let plugin: UnsafePointer<lossd_plugin>
    let handle: UnsafeMutableRawPointer
    let descriptor: Int32
    var staysMapped: Bool

    /// Stops the plugin, and then, where `mayUnmap` says so, unmaps the library. Returns why it
    /// stays in memory, if it does.
    func close(_ activity: String, _ watch: Int32, mayUnmap: () -> Bool) -> String? {
      var reason: String?
      _ = PluginLibrary.watched(activity, watch) {
        if plugin.pointee.stop != nil { plugincalls_stop(plugin) }
        if staysMapped {
          reason = "it has started threads of its own"
        } else if !mayUnmap() {
          reason = "a callback of some plugin has not returned"
        } else {
          dlclose(handle)
          reason = isMapped ? "it has unique symbols or thread destructors" : nil
        }
      }
      // Its descriptor stays open with it: another library under the same number would be taken for
      // it.
      if reason == nil { _ = Glibc.close(descriptor) }
      return reason
    }

    private var isMapped: Bool {
      guard let still = dlopen("/proc/self/fd/\(descriptor)", RTLD_NOW | RTLD_NOLOAD) else {
        return false
      }
      dlclose(still)
      return true
    }
  }
}
