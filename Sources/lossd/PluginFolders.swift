import LossdLoop
import LossdPluginHost
import LossdSocket
import LossdThreads

/// Keeps what is loaded in step with the plugin folders. Confined to the loop's thread, but for the looking
/// itself.
final class PluginFolders {
  private static let settleMilliseconds: UInt64 = 350

  private let manager: PluginManager
  private let loop: Loop
  private var watchers: [FolderWatcher] = []
  private var timer: LoopTimer?
  private var isScanning = false
  private var isChanged = false

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
    if manager.scan() { changed() }
  }

  /// A look at the folders that nothing asked for but the administrator.
  func rescan() { changed() }

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

  private func scan() {
    // Opening a library takes its time: not on the loop. One look at a time.
    if isScanning { return }
    isScanning = true
    isChanged = false
    let (manager, loop) = (self.manager, self.loop)
    let me = LoopConfined(self)
    startThread {
      let goesOn = manager.scan()
      loop.execute {
        me.value.isScanning = false
        if goesOn || me.value.isChanged { me.value.changed() }
      }
    }
  }
}
