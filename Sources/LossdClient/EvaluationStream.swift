import LossdTensor
import LossdWire
import Synchronization

/// A data set's evaluation in batches: send batches, take a result for each, in order, and at last the
/// Summary. One task may send while another takes; each side waits for the other by credits, so that
/// memory stays bounded.
public final class EvaluationStream: Sendable {
  /// Results that the daemon may be ahead of their reader.
  static let responseWindow: UInt32 = 8

  private struct State {
    var isFirst = true
    var hasFinished = false
    var summary: SummaryMessage?
  }

  private let connection: ClientConnection
  private let call: ClientCall
  private let limits: HelloMessage
  private let function: String
  private let options: EvaluationOptions
  private let state = Mutex(State())

  init(
    _ connection: ClientConnection, _ call: ClientCall, _ limits: HelloMessage, function: String,
    options: EvaluationOptions
  ) {
    self.connection = connection
    self.call = call
    self.limits = limits
    self.function = function
    self.options = options
  }

  /// Sends a batch, or inputs that stay (`weight`, `pos_weight`) alone. Waits until the daemon will take
  /// it and it is written. One task at a time.
  public func send(
    _ inputs: [(name: String, tensor: Tensor)], id: UInt64 = 0
  ) async throws(StatusError) {
    guard await connection.takeCredit(call) else { throw ended() }
    let isFirst = state.withLock { state in
      defer { state.isFirst = false }
      return state.isFirst
    }
    let frames = try encodeRequest(
      connection, call, function: isFirst ? function : "", inputs: inputs,
      options: isFirst ? options : nil, id: id, endStream: false, limits)
    await connection.sendAndWait(frames)
  }

  /// No more batches.
  public func finish() async throws(StatusError) {
    let (isFirst, isSecond) = state.withLock { state in
      defer { state.hasFinished = true }
      return (state.isFirst, state.hasFinished)
    }
    if isSecond { return }
    // A stream without a batch still names its function, for the Summary.
    if isFirst { try await send([]) }
    connection.send(connection.encode { $0.encodeFrame(halfClose: call.stream) })
  }

  /// The next batch's result, in the order of sending; nil after the last: `summary` is there then.
  /// Throws what ended the stream early.
  public func next() async throws(StatusError) -> Evaluated? {
    while true {
      let response: ClientCall.Response?
      do { response = try await connection.receive(call) } catch let error as StatusError {
        throw error
      } catch {
        throw StatusError(.unavailable, "the daemon is shutting down; the stream never began")
      }
      guard let response else { return nil }
      let (evaluated, summary) = try decodeResponse(response)
      if let summary {
        state.withLock { $0.summary = summary }
        continue
      }
      connection.send(connection.encode { $0.encodeFrame(credit: 1, stream: call.stream) })
      return evaluated
    }
  }

  /// What the whole stream came to, once `next` has returned nil; of a stream that a drain ended, what
  /// it had come to by then, once `next` has thrown.
  public var summary: SummaryMessage? { state.withLock { $0.summary } }

  /// Asks the daemon to stop.
  public func cancel() { connection.cancel(call) }

  private func ended() -> StatusError {
    let end = connection.state.withLock { _ in call.end }
    if case .failure(let error) = end { return error }
    return StatusError(.failedPrecondition, "the stream has ended")
  }
}
