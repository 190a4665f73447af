import CUV

/// Keeps a loop from waiting for events while there is something left to do. Confined to the loop's
/// thread.
public final class KeepTurning {
  private let handle = Handle<uv_idle_t>()
  private var isOn = false

  public init(_ loop: Loop) {
    uv_idle_init(loop.raw, handle.raw)
    handle.attach(self)
    handle.unreference()
  }

  /// Whether the loop looks for events without waiting for them, from the next turn on.
  public func set(_ wanted: Bool) {
    if wanted == isOn { return }
    handle.assertConfined()
    isOn = wanted
    if wanted {
      uv_idle_start(handle.raw) { _ in }
    } else {
      uv_idle_stop(handle.raw)
    }
  }

  public func close() { handle.close() }
}
