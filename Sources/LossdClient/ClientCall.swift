import LossdTensor
import LossdWire

/// A call under way on a connection, as the reader sees it.
///
/// `@unchecked Sendable`: all that changes is touched inside of the connection's lock.
final class ClientCall: @unchecked Sendable {
  typealias Response = (message: [UInt8], payload: AlignedBuffer)

  let stream: UInt32
  /// Responses that nobody has taken yet.
  var responses: [Response] = []
  /// How it ended; nil: not yet. Responses may be left to take.
  var end: Result<Void, StatusError>?
  var neverBegan = false
  /// Responses that may still come: one a request of a stream, and its Summary; else one.
  var responsesDue: UInt64 = 1
  /// Requests that may be sent.
  var credit: UInt64
  var receiver: CheckedContinuation<Void, Never>?
  var creditWaiter: CheckedContinuation<Void, Never>?

  init(_ stream: UInt32, credit: UInt64) {
    self.stream = stream
    self.credit = credit
  }

  /// Who waits for a response, an end or credit looks again. The continuations are resumed by the
  /// caller, outside of the lock.
  func takeWaiters() -> [CheckedContinuation<Void, Never>] {
    defer {
      receiver = nil
      creditWaiter = nil
    }
    return [receiver, creditWaiter].compactMap { $0 }
  }
}
