import LossdTensor
import LossdWire

/// A method of one small request and one small response, answered at once on the loop.
class QueryHandler: CallHandler {
  let context: CallLoop
  private(set) var call: Call?
  private var hasRequest = false
  private let arena = MessageArena(
    retainedBytes: 16 << 10, fieldsMax: MessageArena.requestFieldsMax)

  init(_ context: CallLoop) { self.context = context }

  /// Takes what it needs from the request.
  func decode(_ message: UnsafeRawBufferPointer, _ arena: MessageArena) throws(StatusError) {
    preconditionFailure("a method's")
  }

  func answer(_ call: Call) throws(StatusError) { preconditionFailure("a method's") }

  override func begin(_ call: Call) {
    self.call = call
    hasRequest = false
  }

  override func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {
    defer { arena.reset() }
    if hasRequest {
      throw StatusError(.invalidArgument, "a second request of a method that takes one")
    }
    hasRequest = true
    try decode(message, arena)
  }

  override func requestComplete(isLast: Bool) {
    guard isLast, let call else { return }
    do throws(StatusError) {
      let method = call.method
      try answer(call)
      context.metrics.methodEnded(method.path, .ok)
      self.call = nil
    } catch {
      cancel(error)
    }
  }

  override func cancel(_ reason: StatusError) {
    guard let call else { return }
    self.call = nil
    context.metrics.methodEnded(call.method.path, reason.code)
    call.end(reason)
  }
}
