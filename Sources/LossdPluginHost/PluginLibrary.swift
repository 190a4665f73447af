import CLinux
import CLossdPlugin
import Glibc
import LossdEngine
import LossdTensor
import Synchronization

/// An open library and its descriptor. Closed with the last reference: every function entry holds one,
/// and every call holds its entry.
///
/// `@unchecked Sendable`: immutable; the descriptor is by plugin.h's rules.
final class PluginLibrary: FunctionOwner, @unchecked Sendable {
  let plugin: UnsafePointer<lossd_plugin>
  let path: String
  let identity: PluginFile.Identity
  private let handle: UnsafeMutableRawPointer
  private let descriptor: Int32

  /// Opens the copy of a checked file and asks it for its plugin. FAILED_PRECONDITION with the reason.
  init(path: String) throws(StatusError) {
    self.path = path
    let file = try PluginFile(path)
    identity = file.identity
    // A library built with -ffast-math changes the thread that loads it.
    let mode = clinux_float_mode()
    let before = clinux_set_activity("a plugin that is being loaded")
    let opened = dlopen(file.path, RTLD_NOW | RTLD_LOCAL)
    clinux_set_float_mode(mode)
    guard let opened else {
      clinux_set_activity(before)
      throw PluginFile.refused(path, PluginLibrary.linkerText(file.path))
    }
    do throws(StatusError) {
      plugin = try PluginLibrary.entry(opened, path)
    } catch {
      clinux_set_activity(before)
      dlclose(opened)
      throw error
    }
    clinux_set_float_mode(mode)
    clinux_set_activity(before)
    handle = opened
    descriptor = file.take()
  }

  private static func entry(
    _ handle: UnsafeMutableRawPointer, _ path: String
  ) throws(StatusError) -> UnsafePointer<lossd_plugin> {
    guard let symbol = dlsym(handle, "lossd_plugin_entry") else {
      throw PluginFile.refused(path, "it does not export lossd_plugin_entry")
    }
    typealias Entry = @convention(c) (UnsafePointer<lossd_host>?) -> UnsafePointer<lossd_plugin>?
    guard let plugin = unsafeBitCast(symbol, to: Entry.self)(hostTable) else {
      throw PluginFile.refused(path, "lossd_plugin_entry returned NULL")
    }
    try checkDescriptor(plugin.pointee)
    if let start = plugin.pointee.start {
      var error = lossd_error()
      error.struct_size = UInt32(MemoryLayout<lossd_error>.size)
      let code = start(hostTable, &error)
      if code != LOSSD_OK {
        let text = withUnsafeBytes(of: error.text) {
          String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        throw PluginFile.refused(path, "its start failed: \(text)")
      }
    }
    return plugin
  }

  deinit {
    let mode = clinux_float_mode()
    let before = clinux_set_activity("a plugin that is being unloaded")
    plugin.pointee.stop?()
    dlclose(handle)
    // glibc does not unmap a library with unique symbols or thread destructors. Its descriptor must then
    // stay open: another library under the same number would be taken for it.
    if let still = dlopen("/proc/self/fd/\(descriptor)", RTLD_NOW | RTLD_NOLOAD) {
      dlclose(still)
      PluginLibrary.pinned.add(1, ordering: .relaxed)
    } else {
      _ = close(descriptor)
    }
    clinux_set_activity(before)
    clinux_set_float_mode(mode)
  }

  /// Libraries that are closed and cannot be unmapped.
  static let pinned = Atomic<Int>(0)

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
