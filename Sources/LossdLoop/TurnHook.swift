import CUV

/// Runs something at the end of each turn of a loop, before it waits again. Confined to the loop's
/// thread.
public final class TurnHook {
  private let handle = Handle<uv_prepare_t>()
  private var onTurn: (() -> Void)?

  public init(_ loop: Loop, onTurn: @escaping () -> Void) {
    self.onTurn = onTurn
    uv_prepare_init(loop.raw, handle.raw)
    handle.attach(self)
    handle.unreference()
    uv_prepare_start(handle.raw) { raw in
      Handle<uv_prepare_t>.owner(raw?.pointee.data, TurnHook.self)?.onTurn?()
    }
  }

  public func close() {
    onTurn = nil
    handle.close()
  }
}
