import CUV

/// Turns a signal into a call on the loop's thread. Confined to that thread.
public final class SignalWatcher {
  private let handle = Handle<uv_signal_t>()
  private var onSignal: (() -> Void)?

  public init(_ loop: Loop, signal: Int32, onSignal: @escaping () -> Void) throws(LoopError) {
    self.onSignal = onSignal
    uv_signal_init(loop.raw, handle.raw)
    handle.attach(self)
    handle.unreference()
    let code = uv_signal_start(
      handle.raw,
      { raw, _ in
        Handle<uv_signal_t>.owner(raw?.pointee.data, SignalWatcher.self)?.onSignal?()
      }, signal)
    if code != 0 {
      close()
      throw LoopError("watch signal \(signal)", code)
    }
  }

  public func close() {
    onSignal = nil
    handle.close()
  }
}
