import CLinux
import CLossdPlugin
import CPluginCalls
import Glibc
import LossdEngine
import LossdTensor

/// An open library and its descriptor. Closed with the last reference: every function entry holds one,
/// and every call holds its entry.
///
/// `@unchecked Sendable`: immutable; the descriptor is by plugin.h's rules.
final class PluginLibrary: FunctionOwner, @unchecked Sendable {
  let plugin: UnsafePointer<lossd_plugin>
  let path: String
  private let handle: UnsafeMutableRawPointer
  private let descriptor: Int32
  private let onPinned: @Sendable () -> Void

  var isElsewhere: Bool { false }

  /// Opens the copy of a checked file and asks it for its plugin. FAILED_PRECONDITION with the reason.
  convenience init(_ file: consuming PluginFile) throws(StatusError) {
    var file = file
    let path = file.path
    try self.init(copy: file.take(), path: path)
  }

  /// Opens a library in sealed memory, whose descriptor it takes over; `path` is where it was copied from.
  /// - Parameter onPinned: called when it has been closed and glibc keeps it in memory nevertheless.
  init(
    copy descriptor: Int32, path: String, onPinned: @escaping @Sendable () -> Void = {}
  ) throws(StatusError) {
    self.path = path
    self.onPinned = onPinned
    self.descriptor = descriptor
    // A library may change the thread that loads it, and what all threads share.
    let mode = clinux_float_mode()
    let habits = clinux_habits_save()
    let before = clinux_set_activity("a plugin that is being loaded")
    let copy = "/proc/self/fd/\(descriptor)"
    let opened = dlopen(copy, RTLD_NOW | RTLD_LOCAL)
    var found: UnsafePointer<lossd_plugin>?
    var failure: StatusError?
    if let opened {
      do throws(StatusError) { found = try PluginLibrary.entry(opened, path) } catch {
        failure = error
      }
    } else {
      failure = PluginFile.refused(path, PluginLibrary.linkerText(copy))
    }
    clinux_set_float_mode(mode)
    if let changed = clinux_habits_restore(habits), failure == nil {
      failure = PluginFile.refused(path, "loading it changed \(String(cString: changed))")
      if let found, found.pointee.stop != nil { plugincalls_stop(found) }
    }
    clinux_set_activity(before)
    guard let opened, let found, failure == nil else {
      if let opened { dlclose(opened) }
      _ = close(descriptor)
      throw failure ?? PluginFile.refused(path, "it cannot be opened")
    }
    handle = opened
    plugin = found
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
    let mode = clinux_float_mode()
    let habits = clinux_habits_save()
    let before = clinux_set_activity("a plugin that is being unloaded")
    if plugin.pointee.stop != nil { plugincalls_stop(plugin) }
    dlclose(handle)
    // glibc does not unmap a library with unique symbols or thread destructors. Its descriptor must then
    // stay open: another library under the same number would be taken for it.
    if let still = dlopen("/proc/self/fd/\(descriptor)", RTLD_NOW | RTLD_NOLOAD) {
      dlclose(still)
      onPinned()
    } else {
      _ = close(descriptor)
    }
    clinux_set_activity(before)
    _ = clinux_habits_restore(habits)
    clinux_set_float_mode(mode)
  }

  var name: String { String(cString: plugin.pointee.name) }
  var version: String { String(cString: plugin.pointee.version) }

  /// The dynamic linker's reason, without the path of the copy, which means nothing to anybody.
  private static func linkerText(_ copy: String) -> String {
    guard let text = dlerror() else { return "it cannot be opened" }
    var reason = String(cString: text)
    if reason.hasPrefix(copy + ": ") { reason.removeFirst(copy.count + 2) }
    return reason
  }
}
