import LossdTensor
import LossdWire

extension LoopContext {
  /// How a service is; nil: there is none of that name where the client has connected.
  fileprivate func serving(_ service: String, _ call: Call) -> ServingStatus? {
    guard service.isEmpty || call.services.names.contains(service) else { return nil }
    return daemon.isDraining.load(ordering: .relaxed) ? .notServing : .serving
  }
}

/// Check of gRPC's health checking: how a service is now.
final class HealthCheckHandler: QueryHandler {
  private var service = ""

  override func decode(
    _ message: UnsafeRawBufferPointer, _ arena: MessageArena
  ) throws(StatusError) {
    service = try HealthCheckRequest(decoding: message, in: arena).service
  }

  override func answer(_ call: Call) throws(StatusError) {
    guard let status = context.serving(service, call) else {
      throw StatusError(.notFound, "no service of that name")
    }
    try call.respond { $0.encodeMessage(health: status) }
    call.finish()
  }
}

/// Watch of gRPC's health checking: how a service is, and again whenever that changes. It changes
/// once, when the daemon begins to go down; the call then ends, so as not to keep the daemon.
final class HealthWatchHandler: CallHandler {
  private let context: CallLoop
  private var call: Call?
  private var service: String?
  private let arena = MessageArena(retainedBytes: 4 << 10, fieldsMax: MessageArena.requestFieldsMax)

  init(_ context: CallLoop) { self.context = context }

  override func begin(_ call: Call) {
    self.call = call
    service = nil
  }

  override func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {
    defer { arena.reset() }
    if service != nil {
      throw StatusError(.invalidArgument, "a second request of a method that takes one")
    }
    service = try HealthCheckRequest(decoding: message, in: arena).service
  }

  override func requestComplete(isLast: Bool) {
    guard let call, let service else { return }
    do throws(StatusError) {
      let status = context.serving(service, call) ?? .serviceUnknown
      try call.respond { $0.encodeMessage(health: status) }
      if status == .notServing {
        cancel(StatusError(.unavailable, "the daemon is shutting down"))
      }
    } catch { cancel(error) }
  }

  override func halfClosed() {
    if service == nil { cancel(StatusError(.unimplemented, "no request came")) }
  }

  override func drainBegan() {
    guard let call, let service else { return }
    if context.serving(service, call) != nil {
      do throws(StatusError) { try call.respond { $0.encodeMessage(health: .notServing) } } catch {
        return cancel(error)
      }
    }
    cancel(StatusError(.unavailable, "the daemon is shutting down"))
  }

  override func cancel(_ reason: StatusError) {
    guard let call else { return }
    self.call = nil
    context.metrics.methodEnded(call.method.path, reason.code)
    call.end(reason)
  }
}
