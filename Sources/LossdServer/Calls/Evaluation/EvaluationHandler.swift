import LossdEngine
import LossdTensor
import LossdWire

/// Evaluate and EvaluateStream: a batch a request, a response a batch, in order, and for a stream
/// at last the Summary. A unary call is a stream of one batch. Several batches are computed at once
/// while others arrive and leave; what happens to each is `Batch`'s.
final class EvaluationHandler: CallHandler {
  /// Batches of one stream under way at once, beyond which they wait: enough to keep every worker
  /// busy while responses are written.
  private static let runningMax = 4

  /// The loop outlives its handlers.
  let contextReference: Unretained<CallLoop>
  /// It has its handler, and so outlives it; nil between calls.
  private(set) var call: Unretained<Call>?
  /// Whether the call is a stream.
  private var isStream = false
  /// Function, attributes and outputs of all batches of a stream, from the first request.
  private(set) var template: Evaluation?
  /// Inputs that stay.
  var kept: [KeptInput] = []
  var arriving: Batch?
  /// Requests whose inputs that stay a worker is copying.
  var copyingCount = 0
  /// Requests so far.
  private var requestCount = 0
  /// The request has named a function that is there.
  private var hasFunction = false
  /// In the order of their requests.
  var batches: [Batch] = []
  private var startedCount = 0
  private var isHalfClosed = false
  /// Why the call is to end once its work has stopped.
  private(set) var ending: StatusError?
  private var isDraining = false
  private var isPumping = false
  private let summary = StreamSummary()

  init(_ context: CallLoop) { contextReference = Unretained(context) }

  var context: CallLoop { contextReference.object }

  override func begin(_ call: Call) {
    self.call = Unretained(call)
    isStream = call.method.isStreaming
    isHalfClosed = false
    ending = nil
    isDraining = false
    startedCount = 0
    requestCount = 0
    hasFunction = false
    copyingCount = 0
    if isStream { summary.total = StreamTotal() }
  }

  // MARK: - Requests

  override func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {
    context.loop.assertConfined()
    assert(ending == nil && (arriving == nil || !isStream), "one request arrives at a time")
    if !isStream && requestCount > 0 {
      throw StatusError(.invalidArgument, "a second request of a method that takes one")
    }
    requestCount &+= 1
    let batch = contextReference.with { $0.takeBatch() }
    arriving = batch
    batch.begin(self)
    try call?.with { (call) throws(StatusError) in
      try Unretained(batch.job).with { (job) throws(StatusError) in
        try job.begin(call)
        try job.decode(message, call)
      }
    }
  }

  /// A big payload's evaluation is planned before a byte of it is read.
  override func destination(_ byteCount: Int) -> Destination {
    guard let call, let arriving else {
      return .refuse(StatusError(.internal, "a payload without a request"))
    }
    let job = arriving.job
    if let own = job.ownDestination(byteCount) { return .receive(own) }
    do throws(StatusError) {
      let evaluation = try beginEvaluation(job, call.object)
      if !evaluation.entry.isForeign {
        try job.setInputs(call.object)
        try job.addKept(kept)
        if job.bringsBatch { try job.plan() }
      }
    } catch { return .refuse(error) }
    return job.destination(byteCount, context, call.object)
  }

  override func payloadArrived(_ buffer: PayloadBuffer, _ byteCount: Int) {
    guard let arriving else { return }
    arriving.job.payload = buffer
    arriving.job.payloadBytes = byteCount
  }

  /// The request that is arriving is a bad one: the call ends after the batches before it.
  override func refuseRequest(_ error: StatusError) {
    let batch = arriving ?? context.takeBatch()
    arriving = nil
    batch.fail(named(error, batch))
    batches.append(batch)
    call?.object.dropRequests()
    pump()
  }

  override func requestComplete(isLast: Bool) {
    // Without its END_STREAM a unary call waits: for a second request, which is one too many.
    guard let call, let batch = arriving, ending == nil, isLast || isStream else { return }
    if isLast { isHalfClosed = true }
    do throws(StatusError) {
      try call.with { (call) throws(StatusError) in
        try Unretained(batch).with { (batch) throws(StatusError) in
          batch.job.completeTime = Clock.now
          try accept(batch, call)
        }
      }
    } catch {
      return refuseRequest(error)
    }
    pump()
  }

  private func accept(_ batch: Batch, _ call: Call) throws(StatusError) {
    let job = batch.job
    if !isStream {
      if job.repeats() {
        // All of the plan is there.
        job.withEvaluation { functionFound($0, call) }
        batch.repeats()
      } else {
        _ = try beginEvaluation(job, call)
        try job.setInputs(call)
      }
      arriving = nil
      batches.append(batch)
      return
    }
    _ = try beginEvaluation(job, call)
    try job.setInputs(call)
    let (isBatch, copies) = try keep(job, call)
    arriving = nil
    if isBatch {
      try job.addKept(kept)
      batches.append(batch)
    }
    if !copies.isEmpty {
      copy(copies, batch, call, isBatch: isBatch)
    } else if !isBatch {
      context.give(batch)
      call.grantRequests(1)
    }
  }

  /// Begins the evaluation of a request, the first time: of the function, the attributes and the
  /// outputs that it names, or that the stream's first request named.
  private func beginEvaluation(_ job: EvaluateJob, _ call: Call) throws(StatusError) -> Evaluation {
    if !job.isBegun {
      if let template, let request = job.request {
        try template.checkLater(request)
        job.beginBatch(like: template)
      } else {
        let evaluation = try job.beginEvaluation(
          context.registry.table, call, mayPlace: !isStream)
        functionFound(evaluation, call)
        if isStream, let evaluation = job.takeEvaluation() {
          template = evaluation
          try summary.begin(evaluation.entry, job.request)
          job.beginBatch(like: evaluation)
          summary.mergeParts(evaluation, call, context) { [self] error in
            if let error { cancel(error) } else { pump() }
          }
        } else if let request = job.request, request.summaryCount > 0 {
          throw StatusError(
            .invalidArgument,
            "\(evaluation.entry.name): Summaries to go on from are for EvaluateStream")
        }
      }
    }
    guard let evaluation = job.evaluation else { throw StatusError(.internal, "no evaluation") }
    return evaluation
  }

  private func functionFound(_ evaluation: Evaluation, _ call: Call) {
    hasFunction = true
    call.functionFound(evaluation)
  }

  override func halfClosed() {
    isHalfClosed = true
    pump()
  }

  override func creditGranted() { pump() }
  override func memoryReleased() { pump() }

  // MARK: - Batches

  override var isHoldingForCredit: Bool {
    guard let call, startedCount < batches.count else { return false }
    return call.with { $0.responseCredit != .max && UInt64(startedCount) >= $0.responseCredit }
  }

  /// Something of a batch that ran elsewhere has ended.
  func batchChanged() { pump() }

  /// Starts what may start, answers what is done, ends what is over.
  func pump() {
    context.loop.assertConfined()
    // Work that runs at once comes back here from within.
    if isPumping { return }
    isPumping = true
    while let call, call.with({ answerFirst($0) || startNext($0) }) {}
    isPumping = false
    call?.with { endIfOver($0) }
  }

  /// Sends the response of the first batch where that is over; whether there was one.
  private func answerFirst(_ call: Call) -> Bool {
    guard ending == nil, !batches.isEmpty else { return false }
    if isStream {
      // Counted: it is taken from the list before it is given back.
      let batch = batches[0]
      return batch.isOver && answer(batch, call)
    }
    // It stays on the list until it is given back, and then the loop has it.
    return Unretained(batches[0]).with { $0.isOver && answerOnly($0, call) }
  }

  /// Sends the response of a unary call; false: there is no other batch to be answered.
  private func answerOnly(_ batch: Batch, _ call: Call) -> Bool {
    do throws(StatusError) {
      if let error = batch.error { throw error }
      let isAnswered = try Unretained(batch.job).with { (job) throws(StatusError) in
        if job.evaluation == nil { return false }
        try job.respond(call, isLast: true)
        job.noteSuccess()
        return true
      }
      if isAnswered { finish(call, .ok) }
    } catch { cancel(named(error, batch)) }
    return false
  }

  /// Sends the response of a stream's batch; whether another may be answered.
  private func answer(_ batch: Batch, _ call: Call) -> Bool {
    if let error = batch.error {
      cancel(named(error, batch))
      return false
    }
    guard let evaluation = batch.job.evaluation else { return false }
    if evaluation.entry.isForeign, evaluation.entry.mergesByItself, batch.merged == nil {
      if summary.isUnderWay { return false }
      if let template { batch.merge(into: summary.total.sums, template, call, context) }
      return false
    }
    do throws(StatusError) {
      try batch.job.respond(call, isLast: false)
      try summary.total.add(evaluation, merged: batch.merged)
    } catch {
      cancel(named(error, batch))
      return false
    }
    batches.removeFirst()
    startedCount -= 1
    count(batch, .ok)
    context.give(batch)
    call.grantRequests(1)
    return true
  }

  /// Starts the next batch, or goes on with one that has waited for memory; whether one could.
  private func startNext(_ call: Call) -> Bool {
    if ending != nil { return false }
    for index in batches.indices where Unretained(batches[index]).with({ $0.state == .planned }) {
      let waiting = batches[index]
      waiting.advance(call, context)
      if waiting.state != .planned { return true }
      break
    }
    guard !isDraining, startedCount < batches.count,
      startedCount < EvaluationHandler.runningMax, UInt64(startedCount) < call.responseCredit
    else { return false }
    return Unretained(batches[startedCount]).with { batch in
      guard batch.state == .received, batch.hasInputs else {
        // One that has been refused, or whose plan was there, starts by itself.
        if batch.state == .received { return false }
        startedCount += 1
        return true
      }
      startedCount += 1
      contextReference.with { batch.advance(call, $0) }
      return true
    }
  }

  override var holding: Holding {
    guard let call else { return .nothing }
    let isWorking =
      copyingCount > 0 || summary.isUnderWay
      || batches.contains { $0.isUnderWay || $0.state == .planned }
    return isWorking
      ? .working
      : .idle(steps: requestCount &+ Int(truncatingIfNeeded: call.object.responseCredit))
  }

  // MARK: - The end

  override func cancel(_ reason: StatusError) {
    context.loop.assertConfined()
    if ending == nil { ending = reason }
    call?.object.dropRequests()
    for batch in batches { batch.stop(context) }
    summary.stop(context)
    if !isPumping { call?.with { endIfOver($0) } }
  }

  override func drainExpired() {
    if !isStream { return super.drainExpired() }
    isDraining = true
    call?.object.dropRequests()
    pump()
  }

  private func endIfOver(_ call: Call) {
    if summary.isUnderWay { return }
    if let ending {
      if copyingCount > 0 || batches.contains(where: { $0.isUnderWay }) { return }
      end(call, ending)
    } else if isDraining {
      if startedCount > 0 || copyingCount > 0 { return }
      summarise(call)
    } else if isStream, isHalfClosed, batches.isEmpty, arriving == nil, copyingCount == 0 {
      summarise(call)
    }
  }

  /// Has the Summary's values computed, and sends it; what drains is told that it is not the end.
  private func summarise(_ call: Call) {
    let drained = StatusError(
      .unavailable,
      "the daemon is shutting down; \(summary.total.batches) batches are in the Summary before this"
    )
    guard let template else {
      let noFunction = StatusError(
        .invalidArgument, "the stream ended before a request named a function")
      return end(call, isDraining ? drained : noFunction)
    }
    summary.compute(template, call, context) { [self] error in
      guard let call = self.call?.object else { return }
      if let error = ending ?? error { return end(call, error) }
      do throws(StatusError) {
        try summary.total.respond(
          call, template.entry, kernels: context.daemon.kernels, isLast: !isDraining)
      } catch {
        return end(call, isDraining ? drained : error)
      }
      if isDraining { end(call, drained) } else { finish(call, .ok) }
    }
  }

  private func end(_ call: Call, _ error: StatusError) {
    finish(call, error.code)
    call.end(error)
  }

  /// Counts the call and lets go of what it used.
  private func finish(_ call: Call, _ code: StatusCode) {
    contextReference.with { context in
      if !isStream, hasFunction, !batches.isEmpty {
        Unretained(batches[0]).with { count($0, code) }
      } else if !isStream, hasFunction, let arriving {
        count(arriving, code)
      } else {
        context.metrics.methodEnded(call.method.path, code)
      }
      while let batch = batches.popLast() { context.give(batch) }
      if let batch = arriving.take() { context.give(batch) }
    }
    if !kept.isEmpty { kept.removeAll() }
    if template != nil { template = nil }
    self.call = nil
  }

  private func count(_ batch: Batch, _ code: StatusCode) {
    let metrics = contextReference.with { Unretained($0.metrics) }
    Unretained(batch.job).with { job in
      let time = Clock.now - job.completeTime
      job.withEvaluation { evaluation in
        let rows = code == .ok ? evaluation.plan.rows : 0
        metrics.with { metrics in
          job.withCounter(metrics, evaluation.entry) {
            $0.ended(code, nanoseconds: time, rows: rows)
          }
        }
      }
    }
  }

  /// Which batch of a stream an error is of.
  private func named(_ error: StatusError, _ batch: Batch) -> StatusError {
    guard isStream, let id = batch.job.request?.id, error.metadata["lossd-batch-id"] == nil else {
      return error
    }
    var error = error
    error.message = "batch \(id): \(error.message)"
    error.metadata["lossd-batch-id"] = String(id)
    return error
  }
}

extension Evaluation {
  /// Whether a later request of a stream agrees with its first, whose evaluation this is.
  fileprivate func checkLater(_ request: EvaluateRequestMessage) throws(StatusError) {
    if !request.function.isEmpty && !entry.name.utf8.elementsEqual(request.function) {
      throw StatusError(
        .invalidArgument,
        "\(entry.name): a later request names the function `\(displayText(request.function))`; a "
          + "stream is of one")
    }
    if request.attributeCount > 0 || request.outputCount > 0 || request.summaryCount > 0 {
      throw StatusError(
        .invalidArgument,
        "\(entry.name): a later request brings attributes or outputs, or Summaries to go on "
          + "from; the first one's are the stream's")
    }
  }
}
