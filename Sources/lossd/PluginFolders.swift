import LossdLoop
import LossdPluginHost
import LossdSocket
import LossdThreads

/// Keeps what is loaded in step with the plugin folders. Confined to the loop's thread, but for the
/// looking itself.
final class PluginFolders {
  private static let settleMilliseconds: UInt64 = 350
  /// The daemon is ready when its plugins are, or after this, nanoseconds: one that hangs while it
  /// is loaded must not keep the others' functions, and the daemon's own, from being served.
  private static let startTime: UInt64 = 20_000_000_000

  private let manager: PluginManager
  private let loop: Loop
  private var watchers: [FolderWatcher] = []
  private var timer: LoopTimer?
  private var isScanning = false
  private var isChanged = false
  /// What was refused is tried again.
  private var isAskedFor = false

  /// Loads what is there, and watches the folders that exist.
  init(_ manager: PluginManager, _ loop: Loop) throws(LoopError) {
    self.manager = manager
    self.loop = loop
    timer = LoopTimer(loop) { [unowned self] in scan() }
    for folder in manager.folders {
      // A folder that is not there yet is no error; a reload of the daemon finds it.
      if let watcher = try? FolderWatcher(
        loop, folder: folder,
        onChange: { [unowned self] in
          changed()
        })
      {
        watchers.append(watcher)
      }
    }
    if manager.folders.isEmpty { return }
    let me = LoopConfined(self)
    manager.setOnDue { loop.execute { me.value.changed() } }
    let done = Semaphore()
    scan { done.signal() }
    _ = done.wait(nanoseconds: PluginFolders.startTime)
  }

  /// A look at the folders that nothing asked for but the administrator.
  func rescan() {
    isAskedFor = true
    changed()
  }

  func close() {
    for watcher in watchers { watcher.close() }
    watchers.removeAll()
    timer?.close()
    timer = nil
  }

  /// Something changed: a look when it has settled.
  private func changed() {
    isChanged = true
    timer?.start(afterMilliseconds: PluginFolders.settleMilliseconds)
  }

  /// - Parameter done: called on the thread that looks, when it has.
  private func scan(_ done: @escaping @Sendable () -> Void = {}) {
    // Opening a library takes its time: not on the loop. One look at a time.
    if isScanning { return }
    isScanning = true
    isChanged = false
    let again = isAskedFor
    isAskedFor = false
    let (manager, loop) = (self.manager, self.loop)
    let me = LoopConfined(self)
    let isStarted = tryToStartThread {
      let goesOn = manager.scan(again: again)
      done()
      loop.execute {
        me.value.isScanning = false
        if goesOn || me.value.isChanged { me.value.changed() }
      }
    }
    if isStarted { return }
    isScanning = false
    changed()
  }
}
