import LossdEngine
import LossdTensor
import LossdWire

/// EvaluateStream: a batch a request, a response a batch, in order, and at last the Summary.
/// Several batches are computed at once while others arrive and leave.
final class EvaluateStreamHandler: CallHandler {
  /// A request that brought an input.
  private final class Batch {
    enum Phase {
      /// `preparing`: a plugin plans it. `merging`: a plugin adds its sums to the stream's.
      case queued, preparing, waitingForMemory, running, done, merging
    }

    let job: EvaluateJob
    var phase = Phase.queued
    var error: StatusError?
    /// What a plugin's function is doing.
    var foreign: ForeignCall?
    /// Its sums are in the stream's already.
    var isMerged = false
    /// Workers copy inputs that stay out of its request.
    var isCopying = false
    /// A thread is stuck in it: its job is not to be used again.
    var isGivenUp = false
    init(_ job: EvaluateJob) { self.job = job }

    var isUnderWay: Bool {
      isCopying || phase == .preparing || phase == .running || phase == .merging
    }

    /// Whether all inputs that it takes from requests before it have been copied.
    var hasInputs: Bool { !isCopying && job.kept.allSatisfy(\.isReady) }
  }

  /// Batches of one stream under way at once, beyond which they wait: enough to keep every worker
  /// busy while responses are written.
  private static let runningMax = 4

  /// The loop outlives its handlers.
  private unowned(unsafe) let context: CallLoop
  private var call: Call?
  /// Function, attributes and outputs of all batches, from the first request.
  private var template: Evaluation?
  private var kept: [KeptInput] = []
  private var arriving: EvaluateJob?
  /// Requests whose inputs that stay a worker is copying.
  private var copyingCount = 0
  /// Requests so far, and what else the client has done for the call.
  private var requestCount = 0
  private var batches: [Batch] = []
  private var startedCount = 0
  private var isHalfClosed = false
  /// Why the call is to end once its work has stopped.
  private var ending: StatusError?
  private var isDraining = false
  private var isPumping = false
  /// A plugin computes the Summary's values.
  private var summing: ForeignCall?
  private var total = StreamTotal()

  init(_ context: CallLoop) { self.context = context }

  override func begin(_ call: Call) {
    self.call = call
    template = nil
    isHalfClosed = false
    ending = nil
    isDraining = false
    total = StreamTotal()
    startedCount = 0
    copyingCount = 0
    requestCount = 0
  }

  // MARK: - Requests

  override func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {
    guard let call else { return }
    let job = context.takeJob()
    requestCount &+= 1
    arriving = job
    try job.begin(call)
    try job.decode(message, call)
  }

  override func destination(_ byteCount: Int) -> Destination {
    guard let call, let job = arriving else {
      return .refuse(StatusError(.internal, "a payload without a request"))
    }
    let (context, template) = (self.context, self.template)
    return job.destination(
      byteCount, context, call,
      prepare: { () throws(StatusError) in
        if let template {
          job.beginBatch(like: template)
        } else {
          _ = try job.beginEvaluation(context.registry.table, call, mayPlace: false)
        }
      }, setInputs: { () throws(StatusError) in try job.setInputs(call, isPlanning: true) })
  }

  /// The request that is arriving is a bad one: the stream ends after the batches before it.
  override func refuseRequest(_ error: StatusError) {
    let batch = Batch(arriving ?? context.takeJob())
    arriving = nil
    batch.phase = .done
    batch.error = named(error, batch.job.request?.id)
    batches.append(batch)
    call?.dropRequests()
    pump()
  }

  override func requestComplete(isLast: Bool) {
    guard let call, let job = arriving, ending == nil else { return }
    job.completeTime = Clock.now
    if isLast { isHalfClosed = true }
    do throws(StatusError) {
      try apply(job, call)
    } catch {
      refuseRequest(error)
      return
    }
    pump()
  }

  private func apply(_ job: EvaluateJob, _ call: Call) throws(StatusError) {
    guard let request = job.request else { return }
    if let template {
      try checkLater(request, template)
      job.beginBatch(like: template)
    } else {
      // The job's evaluation becomes the template; batches get their own.
      call.functionFound(
        try job.beginEvaluation(context.registry.table, call, mayPlace: false))
      if let evaluation = job.takeEvaluation() {
        self.template = evaluation
        total = StreamTotal(evaluation.entry)
        job.beginBatch(like: evaluation)
      }
    }
    try job.setInputs(call)
    let (isBatch, copies) = try keep(job, call)
    arriving = nil
    if isBatch {
      try job.addKept(kept)
      batches.append(Batch(job))
    }
    if !copies.isEmpty {
      copy(copies, job, call, isBatch: isBatch)
    } else if !isBatch {
      context.give(job)
      call.grantRequests(1)
    }
  }

  /// Has workers copy big inputs that stay; the request's memory stays until then.
  private func copy(_ inputs: [KeptInput], _ job: EvaluateJob, _ call: Call, isBatch: Bool) {
    guard let evaluation = job.evaluation else { return }
    copyingCount += 1
    if isBatch { batches.last?.isCopying = true }
    let bound = LoopBound((self, inputs, job, isBatch ? batches.last : nil))
    let context = self.context
    evaluation.deadline = call.deadline
    WorkerCopy.start(
      inputs.compactMap(\.copyPart), evaluation, context.scheduler, call.group
    ) { error in
      context.loop.execute {
        let (me, inputs, job, batch) = bound.value
        me.copied(inputs, job, batch, error)
      }
    }
  }

  private func copied(
    _ inputs: [KeptInput], _ job: EvaluateJob, _ batch: Batch?, _ error: StatusError?
  ) {
    copyingCount -= 1
    batch?.isCopying = false
    for input in inputs { input.copied() }
    if batch == nil {
      context.give(job)
      if error == nil { call?.grantRequests(1) }
    }
    if let error { cancel(error) }
    pump()
  }

  private func checkLater(
    _ request: EvaluateRequestMessage, _ template: Evaluation
  ) throws(StatusError) {
    let name = template.entry.name
    let isSame = request.function.isEmpty || name.utf8.elementsEqual(request.function)
    if !isSame {
      throw StatusError(
        .invalidArgument,
        "\(name): a later request names the function `\(displayText(request.function))`; a stream "
          + "is of one")
    }
    if request.attributeCount > 0 || request.outputCount > 0 {
      throw StatusError(
        .invalidArgument,
        "\(name): a later request brings attributes or outputs; the first one's are the stream's")
    }
  }

  /// Takes over the inputs that stay; returns whether there are others, which make it a batch, and
  /// what workers have to copy.
  private func keep(
    _ job: EvaluateJob, _ call: Call
  ) throws(StatusError) -> (isBatch: Bool, copies: [KeptInput]) {
    guard let evaluation = job.evaluation else { return (false, []) }
    var isBatch = false
    var copies: [KeptInput] = []
    for index in 0..<evaluation.entry.inputs.count {
      guard let view = evaluation.inputView(index) else { continue }
      guard evaluation.entry.isKept(index) else {
        isBatch = true
        continue
      }
      let input = try KeptInput(
        evaluation.entry, index, view, isShared: !job.shared.isEmpty, call.account)
      kept.removeAll { $0.index == index }
      kept.append(input)
      if !input.isReady { copies.append(input) }
    }
    return (isBatch, copies)
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
    return call.responseCredit != .max && UInt64(startedCount) >= call.responseCredit
  }

  /// Starts what may start, answers what is done, ends what is over.
  private func pump() {
    // Work that runs at once comes back here from within.
    if isPumping { return }
    isPumping = true
    var goesOn = true
    while goesOn, call != nil {
      goesOn = answerFirst()
      if call != nil { goesOn = startNext() || goesOn }
    }
    isPumping = false
    if call != nil { endIfOver() }
  }

  /// Whether there was one.
  private func answerFirst() -> Bool {
    guard let call, ending == nil, let batch = batches.first, batch.phase == .done else {
      return false
    }
    if let error = batch.error
      ?? batch.job.evaluation?.error.map({ named($0, batch.job.request?.id) })
    {
      cancel(error)
      return false
    }
    guard let evaluation = batch.job.evaluation else { return false }
    if evaluation.entry.isForeign && evaluation.entry.mergesByItself && !batch.isMerged {
      merge(batch, evaluation, call)
      return false
    }
    do throws(StatusError) {
      try batch.job.respond(call, isLast: false)
      try total.add(evaluation, isMerged: batch.isMerged)
    } catch {
      cancel(named(error, batch.job.request?.id))
      return false
    }
    batches.removeFirst()
    startedCount -= 1
    let time = Clock.now - batch.job.completeTime
    batch.job.withCounter(context.metrics, evaluation.entry) {
      $0.ended(.ok, nanoseconds: time, rows: evaluation.rows)
    }
    context.give(batch.job)
    call.grantRequests(1)
    return true
  }

  /// Whether one could.
  private func startNext() -> Bool {
    if ending == nil, bindWaiting() { return true }
    guard let call, ending == nil, !isDraining, startedCount < batches.count,
      startedCount < EvaluateStreamHandler.runningMax, UInt64(startedCount) < call.responseCredit
    else {
      return false
    }
    let batch = batches[startedCount]
    guard batch.phase == .queued, batch.hasInputs, let evaluation = batch.job.evaluation else {
      return false
    }
    startedCount += 1
    evaluation.deadline = call.deadline
    do throws(StatusError) {
      if evaluation.entry.isForeign {
        try evaluation.checkRequired()
        batch.phase = .preparing
        try prepare(batch, evaluation, call)
      } else {
        try evaluation.makePlan()
        try context.checkSize(batch.job, call)
        batch.phase = .waitingForMemory
      }
    } catch { failed(batch, error) }
    return true
  }

  /// The first batch that has its plan and no memory yet: whether it has got it.
  private func bindWaiting() -> Bool {
    guard let call, let batch = batches.first(where: { $0.phase == .waitingForMemory }),
      let evaluation = batch.job.evaluation
    else { return false }
    do throws(StatusError) {
      guard try context.bind(batch.job, call) else { return false }
    } catch {
      failed(batch, error)
      return true
    }
    batch.phase = .running
    if evaluation.entry.isForeign {
      start(.run(batch.job), batch, evaluation, call)
    } else {
      run(batch, evaluation, call)
    }
    return true
  }

  private func failed(_ batch: Batch, _ error: StatusError) {
    batch.error = named(error, batch.job.request?.id)
    batch.phase = .done
  }

  private func run(_ batch: Batch, _ evaluation: Evaluation, _ call: Call) {
    if batch.job.shared.isEmpty && context.runInline(evaluation) {
      batch.phase = .done
      return
    }
    let bound = LoopBound((self, batch))
    let context = self.context
    context.scheduler.submit(evaluation, group: call.group) { _ in
      context.loop.execute {
        bound.value.1.phase = .done
        bound.value.0.pump()
      }
    }
  }

  // MARK: - A plugin's function

  private func prepare(
    _ batch: Batch, _ evaluation: Evaluation, _ call: Call
  ) throws(StatusError) {
    let job = batch.job
    guard job.findCopiesIn(), let pool = context.foreign.pool(evaluation.entry) else {
      return start(.prepare(job), batch, evaluation, call)
    }
    let parts = try job.copyIn(call, pool)
    let bound = LoopBound((self, batch))
    let context = self.context
    WorkerCopy.start(parts, evaluation, context.scheduler, call.group) { error in
      context.loop.execute {
        let (me, batch) = bound.value
        me.copiedIn(batch, error)
      }
    }
  }

  private func copiedIn(_ batch: Batch, _ error: StatusError?) {
    if let error = ending ?? error {
      failed(batch, error)
      return pump()
    }
    guard let call, let evaluation = batch.job.evaluation else { return }
    batch.job.copiedIn()
    start(.prepare(batch.job), batch, evaluation, call)
  }

  private func start(
    _ task: ForeignCall.Task, _ batch: Batch, _ evaluation: Evaluation, _ call: Call
  ) {
    let foreign = ForeignCall(task, evaluation, call.group, deadline: call.deadline) { [self] in
      foreignDone($0, batch)
    }
    batch.foreign = foreign
    context.foreign.start(foreign)
  }

  private func foreignDone(_ foreign: ForeignCall, _ batch: Batch) {
    batch.foreign = nil
    batch.isGivenUp = foreign.isGivenUp
    if foreign.isGivenUp { batch.job.giveSmall() }
    let isComputed = batch.job.evaluation?.isComputed ?? false
    if let error = foreign.error {
      failed(batch, error)
    } else if batch.phase == .merging {
      total.sums = foreign.total
      batch.isMerged = true
      batch.phase = .done
    } else if isComputed {
      batch.phase = .done
    } else {
      do throws(StatusError) {
        if let call { try context.checkSize(batch.job, call) }
        batch.phase = .waitingForMemory
      } catch { failed(batch, error) }
    }
    pump()
  }

  private func merge(_ batch: Batch, _ evaluation: Evaluation, _ call: Call) {
    guard let template else { return }
    batch.phase = .merging
    start(.merge(into: total.sums, evaluation.accumulator), batch, template, call)
  }

  override var holding: Holding {
    guard let call else { return .nothing }
    let isWorking =
      copyingCount > 0 || batches.contains { $0.isUnderWay }
      || batches.contains { $0.phase == .waitingForMemory }
    return isWorking
      ? .working : .idle(steps: requestCount &+ Int(truncatingIfNeeded: call.responseCredit))
  }

  // MARK: - The end

  override func cancel(_ reason: StatusError) {
    if ending == nil { ending = reason }
    call?.dropRequests()
    for batch in batches where batch.isUnderWay {
      if let evaluation = batch.job.evaluation { context.scheduler.stop(evaluation) }
      if let foreign = batch.foreign { context.foreign.stop(foreign) }
    }
    if let summing { context.foreign.stop(summing) }
    if !isPumping { endIfOver() }
  }

  override func drainExpired() {
    isDraining = true
    call?.dropRequests()
    pump()
  }

  private func endIfOver() {
    guard let call, summing == nil else { return }
    if let ending {
      if copyingCount > 0 || batches.contains(where: { $0.isUnderWay }) { return }
      finish(ending.code)
      call.end(ending)
      return
    }
    if isDraining {
      if startedCount > 0 || copyingCount > 0 { return }
      if template != nil {
        summarise(call) { [self] in endDrained(call) }
      } else {
        endDrained(call)
      }
      return
    }
    guard isHalfClosed, batches.isEmpty, arriving == nil, copyingCount == 0 else { return }
    summarise(call) { [self] in
      do throws(StatusError) {
        try respondSummary(call, isLast: true)
        finish(.ok)
      } catch {
        finish(error.code)
        call.end(error)
      }
    }
  }

  private func endDrained(_ call: Call) {
    if template != nil { try? respondSummary(call, isLast: false) }
    finish(.unavailable)
    call.end(
      StatusError(
        .unavailable,
        "the daemon is shutting down; \(total.batches) batches are in the Summary before this"))
  }

  /// Computes the values of all batches' sums, and goes on; or ends the call with what went wrong.
  private func summarise(_ call: Call, _ next: @escaping () -> Void) {
    guard let template else { return fail(call, EvaluateStreamHandler.noFunction) }
    guard template.entry.isForeign, template.entry.valueCount > 0 else {
      do throws(StatusError) { total.values = try template.summaryValues(total.sums) } catch {
        return fail(call, error)
      }
      return next()
    }
    let foreign = ForeignCall(
      .finish(total.sums), template, call.group, deadline: call.deadline
    ) { [self] foreign in
      summing = nil
      if let error = ending ?? foreign.error { return fail(call, error) }
      total.values = foreign.values
      next()
    }
    summing = foreign
    context.foreign.start(foreign)
  }

  private func fail(_ call: Call, _ error: StatusError) {
    finish(error.code)
    call.end(error)
  }

  private static let noFunction = StatusError(
    .invalidArgument, "the stream ended before a request named a function")

  private func respondSummary(_ call: Call, isLast: Bool) throws(StatusError) {
    guard let template else { throw EvaluateStreamHandler.noFunction }
    try total.respond(call, template.entry, isLast: isLast)
  }

  /// Counts the call and lets go of what it used.
  private func finish(_ code: StatusCode) {
    if let call { context.metrics.methodEnded(call.method.path, code) }
    for batch in batches where !batch.isGivenUp { context.give(batch.job) }
    batches.removeAll()
    if let arriving { context.give(arriving) }
    arriving = nil
    kept.removeAll()
    template = nil
    call = nil
  }

  private func named(_ error: StatusError, _ id: UInt64?) -> StatusError {
    guard let id else { return error }
    var error = error
    error.message = "batch \(id): \(error.message)"
    error.metadata["lossd-batch-id"] = String(id)
    return error
  }
}
