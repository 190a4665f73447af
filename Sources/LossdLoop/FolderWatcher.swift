import CUV

/// Says when something in a folder has changed. Confined to the loop's thread.
public final class FolderWatcher {
  private let handle = Handle<uv_fs_event_t>()
  private var onChange: (() -> Void)?

  public init(_ loop: Loop, folder: String, onChange: @escaping () -> Void) throws(LoopError) {
    self.onChange = onChange
    uv_fs_event_init(loop.raw, handle.raw)
    handle.attach(self)
    handle.unreference()
    let code = uv_fs_event_start(
      handle.raw,
      { raw, _, _, _ in
        Handle<uv_fs_event_t>.owner(raw?.pointee.data, FolderWatcher.self)?.onChange?()
      }, folder, 0)
    if code != 0 {
      close()
      throw LoopError("watch the folder \(folder)", code)
    }
  }

  public func close() {
    onChange = nil
    handle.close()
  }
}
