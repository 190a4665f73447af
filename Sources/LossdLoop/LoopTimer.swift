import CUV

/// A timer of a loop, milliseconds fine. Confined to the loop's thread.
public final class LoopTimer {
  private let handle = Handle<uv_timer_t>()
  private let loop: Loop
  private var onFire: (() -> Void)?

  public init(_ loop: Loop, onFire: @escaping () -> Void) {
    self.loop = loop
    self.onFire = onFire
    uv_timer_init(loop.raw, handle.raw)
    handle.attach(self)
    // A timer alone does not keep a loop running.
    handle.unreference()
  }

  /// Fires once after so many milliseconds, and then every `repeating` ones unless that is 0; what
  /// was set before is forgotten.
  public func start(afterMilliseconds: UInt64, repeating: UInt64 = 0) {
    guard onFire != nil else { return }
    handle.assertConfined()
    // The loop's notion of now is as old as its turn.
    uv_update_time(loop.raw)
    uv_timer_start(
      handle.raw,
      { raw in
        Handle<uv_timer_t>.owner(raw?.pointee.data, LoopTimer.self)?.onFire?()
      }, afterMilliseconds, repeating)
  }

  public func stop() { uv_timer_stop(handle.raw) }

  public func close() {
    onFire = nil
    handle.close()
  }
}
