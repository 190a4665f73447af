import LossdTensor
import LossdWire

/// gRPC's server reflection, v1 and v1alpha: an answer to each question, from descriptors that the
/// build has.
final class ReflectionHandler: CallHandler {
  private let context: CallLoop
  private var call: Call?
  private let arena = MessageArena(retainedBytes: 4 << 10, fieldsMax: MessageArena.requestFieldsMax)

  init(_ context: CallLoop) { self.context = context }

  override func begin(_ call: Call) { self.call = call }

  override func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {
    defer { arena.reset() }
    let request = try ReflectionRequest(decoding: message, in: arena)
    try call?.respond { $0.encodeMessage(reflection: answer(request.question), to: request) }
  }

  private func answer(_ question: ReflectionRequest.Question) -> ReflectionAnswer {
    switch question {
    case .services: return .services(call?.services.names ?? [])
    case .file(let name):
      return Descriptors.file(named: name).map { .file($0) } ?? .error(.notFound, "no such file")
    case .symbol(let name):
      return Descriptors.file(declaring: name).map { .file($0) }
        ?? .error(.notFound, "no such symbol")
    case .extensions: return .error(.notFound, "there are no extensions")
    case .none: return .error(.invalidArgument, "the request asks for nothing")
    }
  }

  override func requestComplete(isLast: Bool) { call?.grantRequests(1) }

  override func halfClosed() {
    guard let call else { return }
    self.call = nil
    context.metrics.methodEnded(call.method.path, .ok)
    call.finish()
  }

  override func drainBegan() { cancel(StatusError(.unavailable, "the daemon is shutting down")) }

  override func cancel(_ reason: StatusError) {
    guard let call else { return }
    self.call = nil
    context.metrics.methodEnded(call.method.path, reason.code)
    call.end(reason)
  }
}
