import CLinux
import Glibc
import LossdEngine
import LossdThreads
import Synchronization

/// Closes libraries, each in a thread of its own: a `stop` or a destructor that does not return
/// holds up nobody.
final class LibraryCloser: Sendable {
  /// For programs that have nothing else to do: closes in the thread of the last user.
  static let here = LibraryCloser(isHere: true) { _, _, _, _ in }

  private struct State {
    var open = 0
    /// Names of those that are being closed.
    var closing: [String] = []
    var mayUnmap: @Sendable () -> Bool = { true }
  }

  private let isHere: Bool
  /// How threads are watched that open and close: in the daemon they do nothing else, before or
  /// after.
  var watch: Int32 { isHere ? CLINUX_WATCH_CRASHES : CLINUX_WATCH_ALL }
  private let onPinned:
    @Sendable (_ name: String, _ version: String, _ path: String, _ reason: String) -> Void
  private let state = Mutex(State())

  /// - Parameter onPinned: called, on any thread, for a library that stays in memory.
  init(
    isHere: Bool = false,
    onPinned:
      @escaping @Sendable (_ name: String, _ version: String, _ path: String, _ reason: String) ->
      Void
  ) {
    self.isHere = isHere
    self.onPinned = onPinned
  }

  /// Asked before a library is unmapped; its answer is whether no thread has anything of a
  /// library's left.
  func setMayUnmap(_ mayUnmap: @escaping @Sendable () -> Bool) {
    state.withLock { $0.mayUnmap = mayUnmap }
  }

  func close(_ end: PluginLibrary.LibraryEnd, name: String, version: String, path: String) {
    if isHere {
      _ = end.close("plugin \(name) \(version), being unloaded", watch) { true }
      return
    }
    let label = "\(name) \(version)"
    let mayUnmap = state.withLock { state in
      state.closing.append(label)
      return state.mayUnmap
    }
    let isStarted = tryToStartThread { [self] in
      clinux_name_thread("lossd-closer")
      let reason = end.close("plugin \(label), being unloaded", watch, mayUnmap: mayUnmap)
      clinux_restore_environment()
      closed(label)
      if let reason { onPinned(name, version, path, reason) }
    }
    if isStarted { return }
    closed(label)
    onPinned(name, version, path, "there is no thread to close it")
  }

  private func closed(_ label: String) {
    state.withLock { state in
      if let index = state.closing.firstIndex(of: label) { state.closing.remove(at: index) }
    }
  }

  /// Waits until nothing is being closed, at most so many nanoseconds. Returns what still is.
  func wait(nanoseconds: UInt64) -> [String] {
    let end = Clock.now + nanoseconds
    while Clock.now < end, state.withLock({ !$0.closing.isEmpty }) { usleep(1000) }
    return state.withLock { $0.closing }
  }
}
