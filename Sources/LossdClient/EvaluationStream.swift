import LossdTensor
import LossdWire
import Synchronization

/// A data set's evaluation in batches: send batches, take a result for each, in order, and at last
/// the Summary. One task may send while another takes; each side waits for the other by credits, so
/// that memory stays bounded.
///
/// When the daemon is shut down in between it says how far it came; the stream then goes on with
/// the next daemon at the same address, from the batch after, and from what the first one said:
/// each batch counts once.
public final class EvaluationStream: Sendable {
  public typealias Batch = [(name: String, tensor: Tensor)]

  /// Results that the daemon may be ahead of their reader.
  static let responseWindow: UInt32 = 8

  /// One call of EvaluateStream; a stream has several when daemons come and go.
  struct Leg: Sendable {
    var connection: ClientConnection
    var call: ClientCall
    var limits: HelloMessage
  }

  private struct State {
    var leg: Leg
    var isFirstOnLeg = true
    /// A new leg is being prepared: senders wait.
    var isResuming = false
    var waiters: [CheckedContinuation<Void, Never>] = []
    /// Sent and not answered: to be sent again on another leg.
    var unanswered: [(batch: Batch, id: UInt64)] = []
    /// Inputs that stay, by name.
    var kept: Batch = []
    var hasFinished = false
    /// Batches that any leg has answered.
    var answeredCount: UInt64 = 0
    /// What the last leg that a drain ended had come to.
    var carried: SummaryMessage?
    /// The last Summary of this leg, of the whole stream so far.
    var summary: SummaryMessage?
    var failure: StatusError?
  }

  private let client: Client
  private let function: String
  private let options: EvaluationOptions
  private let keptNames: Set<String>
  private let timer: StreamTimer
  private let state: Mutex<State>

  init(
    _ client: Client, _ leg: Leg, function: String, options: EvaluationOptions,
    _ description: FunctionDescription?, _ timer: StreamTimer
  ) {
    self.timer = timer
    self.client = client
    self.function = function
    self.options = options
    keptNames = Set((description?.inputs ?? []).filter(\.isKept).map(\.name))
    state = Mutex(State(leg: leg))
  }

  // MARK: - Sending

  /// Sends a batch, or inputs that stay (`weight`, `pos_weight`) alone. Waits until the daemon will
  /// take it and it is written. One task at a time. What lies in `SharedMemory` is read there, and
  /// may be written over when the batch's result has been taken.
  public func send(_ inputs: Batch, id: UInt64 = 0) async throws(StatusError) {
    let isBatch = inputs.contains { !keptNames.contains($0.name) }
    while true {
      let leg = try await currentLeg()
      if let failure = state.withLock({ $0.failure }) { throw failure }
      guard await leg.connection.takeCredit(leg.call) else {
        // The reader finds out why, and whether another leg follows.
        try await waitForChange(after: leg)
        continue
      }
      let isFirst: Bool? = state.withLock { state in
        guard state.leg.call === leg.call, !state.isResuming else { return nil }
        defer { state.isFirstOnLeg = false }
        for input in inputs where keptNames.contains(input.name) {
          state.kept.removeAll { $0.name == input.name }
          state.kept.append(input)
        }
        if isBatch { state.unanswered.append((inputs, id)) }
        return state.isFirstOnLeg
      }
      guard let isFirst else { continue }
      do throws(StatusError) { try await write(inputs, id, on: leg, isFirst: isFirst) } catch {
        // A batch that cannot be sent ends the stream, for who waits for its result too.
        fail(error)
        leg.connection.cancel(leg.call)
        throw error
      }
      return
    }
  }

  /// No more batches.
  public func finish() async throws(StatusError) {
    let isFirst = state.withLock { $0.isFirstOnLeg && !$0.hasFinished }
    // A stream without a batch still names its function, for the Summary.
    if isFirst { try await send([]) }
    let leg: Leg? = state.withLock { state in
      if state.hasFinished { return nil }
      state.hasFinished = true
      // Whoever is preparing the next leg closes that one.
      return state.isResuming ? nil : state.leg
    }
    if let leg { halfClose(leg) }
  }

  private func halfClose(_ leg: Leg) {
    leg.connection.send(leg.connection.encode { $0.encodeFrame(halfClose: leg.call.stream) })
  }

  private func write(
    _ inputs: Batch, _ id: UInt64, on leg: Leg, isFirst: Bool, after summary: SummaryMessage? = nil
  ) async throws(StatusError) {
    let frames = try encodeRequest(
      leg.connection, leg.call, function: isFirst ? function : "", inputs: inputs,
      options: isFirst ? options : nil, id: id, endStream: false, leg.limits,
      summaries: summary.map { [$0] } ?? [])
    await leg.connection.sendAndWait(frames)
  }

  /// The leg to send on; waits while another is being prepared.
  private func currentLeg() async throws(StatusError) -> Leg {
    while true {
      let (leg, isResuming, failure) = state.withLock { ($0.leg, $0.isResuming, $0.failure) }
      if let failure { throw failure }
      if !isResuming { return leg }
      try await waitForChange(after: leg)
    }
  }

  private func waitForChange(after leg: Leg) async throws(StatusError) {
    await withCheckedContinuation { continuation in
      let isLate = state.withLock { state in
        if state.failure != nil || (state.leg.call !== leg.call && !state.isResuming) {
          return true
        }
        state.waiters.append(continuation)
        return false
      }
      if isLate { continuation.resume() }
    }
    if let failure = state.withLock({ $0.failure }) { throw failure }
  }

  // MARK: - Taking results

  /// The next batch's result, in the order of sending; nil after the last: `summary` is there then.
  /// Throws what ended the stream early. One task at a time.
  public func next() async throws(StatusError) -> Evaluated? {
    while true {
      let leg = state.withLock { $0.leg }
      let response: ClientCall.Response?
      do { response = try await leg.connection.receive(leg.call) } catch let error as StatusError {
        let hasSummary = state.withLock { $0.summary != nil }
        guard error.code == .unavailable, hasSummary else { throw fail(error) }
        try await resume()
        continue
      } catch {
        try await resume()  // The daemon says that the call never began.
        continue
      }
      guard let response else {
        fail(StatusError(.failedPrecondition, "the stream has ended"))
        timer.watch(nil)
        return nil
      }
      let (evaluated, summary): (Evaluated, SummaryMessage?)
      do throws(StatusError) { (evaluated, summary) = try decodeResponse(response) } catch {
        // Who sends is not to wait for credit that nobody grants any more.
        leg.connection.cancel(leg.call)
        throw fail(error)
      }
      if let summary {
        let answered = state.withLock { state in
          state.summary = summary
          return state.answeredCount
        }
        if summary.batches == answered { continue }
        leg.connection.cancel(leg.call)
        throw fail(
          StatusError(
            .internal,
            "the daemon's Summary is of \(summary.batches) batches, \(answered) have been answered")
        )
      }
      let answered: Batch = state.withLock { state in
        state.answeredCount += 1
        return state.unanswered.isEmpty ? [] : state.unanswered.removeFirst().batch
      }
      do throws(StatusError) { try answered.checkIntact() } catch { throw fail(error) }
      leg.connection.send(
        leg.connection.encode { $0.encodeFrame(credit: 1, stream: leg.call.stream) })
      return evaluated
    }
  }

  /// The first failure is the stream's; it is returned.
  @discardableResult
  private func fail(_ error: StatusError) -> StatusError {
    let (first, waiters) = state.withLock { state in
      let first = state.failure ?? error
      state.failure = first
      defer { state.waiters = [] }
      return (first, state.waiters)
    }
    for waiter in waiters { waiter.resume() }
    return first
  }

  /// Goes on with the next daemon from the batch after the last answered one.
  private func resume() async throws(StatusError) {
    state.withLock { state in
      state.isResuming = true
      if let summary = state.summary { state.carried = summary }
      state.summary = nil
    }
    do throws(StatusError) {
      let leg = try await client.openLeg(options, timer)
      let (kept, batches, carried) = state.withLock { ($0.kept, $0.unanswered, $0.carried) }
      // The function's name goes with what stays, and then every batch that has no answer yet.
      guard await leg.connection.takeCredit(leg.call) else { throw lost }
      try await write(kept, 0, on: leg, isFirst: true, after: carried)
      for (batch, id) in batches {
        guard await leg.connection.takeCredit(leg.call) else { throw lost }
        try await write(batch, id, on: leg, isFirst: false)
      }
      let (hasFinished, waiters) = state.withLock { state in
        state.leg = leg
        state.isFirstOnLeg = false
        state.isResuming = false
        defer { state.waiters = [] }
        return (state.hasFinished, state.waiters)
      }
      if hasFinished { halfClose(leg) }
      for waiter in waiters { waiter.resume() }
    } catch { throw fail(error) }
  }

  private var lost: StatusError {
    StatusError(.unavailable, "the next daemon ended the stream while it was being resumed")
  }

  /// What the whole stream came to, once `next` has returned nil.
  public var summary: SummaryMessage? { state.withLock { $0.summary ?? $0.carried } }

  /// Asks the daemon to stop.
  public func cancel() {
    let leg = state.withLock { $0.leg }
    leg.connection.cancel(leg.call)
  }
}
