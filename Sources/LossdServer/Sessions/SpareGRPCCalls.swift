import LossdTensor

/// Calls of HTTP/2 that are over, with their handlers, for the next ones of the same loop, and what
/// all of them use by turns. Confined to its thread.
final class SpareGRPCCalls {
  private static let callsMax = 1024
  private var calls: [GRPCCall] = []
  /// For small requests, one after another.
  let parts = RequestParts()

  func take(_ context: CallLoop) -> GRPCCall {
    context.loop.assertConfined()
    context.metrics.callBegan()
    return calls.popLast() ?? GRPCCall(context)
  }

  /// It lives at least until the turn ends.
  func give(_ call: consuming GRPCCall, _ context: CallLoop) {
    context.loop.assertConfined()
    context.metrics.callEnded()
    calls.append(call)
  }

  /// Once a turn.
  func turnEnded() {
    if calls.count > SpareGRPCCalls.callsMax {
      Reaper.shared.drop(Array(calls[SpareGRPCCalls.callsMax...]))
      calls.removeLast(calls.count - SpareGRPCCalls.callsMax)
    }
  }
}
