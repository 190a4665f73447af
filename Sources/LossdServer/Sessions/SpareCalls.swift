import LossdTensor

/// Calls that are over, with their handlers, for the next ones of the same loop. Confined to its
/// thread.
final class SpareCalls {
  private static let callsMax = 1024
  private var calls: [StreamCall] = []

  func take(_ context: CallLoop) -> StreamCall {
    context.loop.assertConfined()
    context.metrics.callBegan()
    return calls.popLast() ?? StreamCall(context)
  }

  /// It lives at least until the turn ends.
  func give(_ call: consuming StreamCall, _ context: CallLoop) {
    context.loop.assertConfined()
    context.metrics.callEnded()
    calls.append(call)
  }

  /// Once a turn.
  func turnEnded() {
    if calls.count > SpareCalls.callsMax {
      Reaper.shared.drop(Array(calls[SpareCalls.callsMax...]))
      calls.removeLast(calls.count - SpareCalls.callsMax)
    }
  }
}
