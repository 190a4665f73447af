import LossdEngine
import LossdTensor
import LossdWire

/// Evaluate: one request, one response.
final class EvaluateHandler: CallHandler {
  private enum Phase {
    /// A plugin plans it.
    case idle, receiving, preparing, waitingForMemory, running
  }

  /// The loop outlives its handlers.
  private let context: Unretained<CallLoop>
  /// It has its handler, and so outlives it; nil between calls.
  private var call: Unretained<Call>?
  private var job: EvaluateJob?
  private var phase = Phase.idle
  private var hasRequest = false
  /// The request names a function that is there.
  private var hasFunction = false
  /// The function of a job that is its stuck thread's now.
  private var lostEntry: FunctionEntry?
  /// What a plugin's function is doing.
  private var foreign: ForeignCall?
  /// Why the call is to end once its work has stopped.
  private var ending: StatusError?

  init(_ context: CallLoop) { self.context = Unretained(context) }

  /// Of the call.
  private var method: Method?

  override func begin(_ call: Call) {
    method = call.method
    self.call = Unretained(call)
    phase = .receiving
    hasRequest = false
    hasFunction = false
    ending = nil
  }

  override func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {
    if hasRequest {
      throw StatusError(.invalidArgument, "a second request of a method that takes one")
    }
    hasRequest = true
    let job = context.with { $0.takeJob() }
    self.job = job
    try call?.with { (call) throws(StatusError) in
      try Unretained(job).with { (job) throws(StatusError) in
        try job.begin(call)
        try job.decode(message, call)
      }
    }
  }

  /// Calls `body` with what the call consists of; none of them is counted. nil where there is no
  /// request.
  @inline(__always)
  private func withAll<Result, Failure>(
    _ body: (EvaluateJob, Call, CallLoop) throws(Failure) -> Result
  ) throws(Failure) -> Result? {
    guard let call, let job else { return nil }
    return try Unretained(job).with { (job) throws(Failure) in
      try call.with { (call) throws(Failure) in
        try context.with { (context) throws(Failure) in try body(job, call, context) }
      }
    }
  }

  override func destination(_ byteCount: Int) -> Destination {
    withAll { job, call, context in
      job.destination(
        byteCount, context, call,
        prepare: { () throws(StatusError) in
          _ = try job.beginEvaluation(context.registry.table, call, mayPlace: true)
        }, setInputs: { () throws(StatusError) in try job.setInputs(call, isPlanning: true) })
    } ?? .refuse(StatusError(.internal, "a payload without a request"))
  }

  override func requestComplete(isLast: Bool) {
    // Without END_STREAM the call waits: for a second request, which is one too many.
    guard isLast else { return }
    withAll { job, call, context in
      job.completeTime = Clock.now
      do throws(StatusError) {
        if job.repeats() {
          try repeated(job, call, context)
        } else {
          try plan(job, call, context)
        }
      } catch {
        end(error)
      }
    }
  }

  /// The request is the one before: all of its plan is there.
  private func repeated(
    _ job: EvaluateJob, _ call: Call, _ context: CallLoop
  ) throws(StatusError) {
    try job.withEvaluation { (evaluation) throws(StatusError) in
      hasFunction = true
      call.functionFound(evaluation)
      evaluation.deadline = call.deadline
      try start(job, evaluation, call, context)
    }
  }

  private func plan(
    _ job: EvaluateJob, _ call: Call, _ context: CallLoop
  ) throws(StatusError) {
    let evaluation = try job.beginEvaluation(context.registry.table, call, mayPlace: true)
    hasFunction = true
    call.functionFound(evaluation)
    try job.setInputs(call)
    evaluation.deadline = call.deadline
    if evaluation.entry.isForeign {
      try evaluation.checkRequired()
      phase = .preparing
      try prepare(job, evaluation, call, context)
    } else {
      try evaluation.makePlan()
      try context.checkSize(job, call)
      try start(job, evaluation, call, context)
    }
  }

  private func start(
    _ job: EvaluateJob, _ evaluation: Evaluation, _ call: Call, _ context: CallLoop
  ) throws(StatusError) {
    guard try context.bind(job, call) else {
      phase = .waitingForMemory
      return
    }
    phase = .running
    if evaluation.entry.isForeign {
      start(.run(job), evaluation, call, context)
    } else if job.shared.isEmpty && context.runInline(evaluation) {
      computed(job, evaluation, call, context)
    } else {
      let me = LoopBound(self)
      context.scheduler.submit(evaluation, group: call.group) { [context] _ in
        context.loop.execute { me.value.computed() }
      }
    }
  }

  // MARK: - A plugin's function

  private func prepare(
    _ job: EvaluateJob, _ evaluation: Evaluation, _ call: Call, _ context: CallLoop
  ) throws(StatusError) {
    guard job.findCopiesIn(), let pool = context.foreign.pool(evaluation.entry) else {
      return start(.prepare(job), evaluation, call, context)
    }
    copy(try job.copyIn(call, pool), evaluation, call, context) { [self] in
      job.copiedIn()
      start(.prepare(job), evaluation, call, context)
    }
  }

  /// Has workers copy what the client shares, and goes on, unless the call is to end.
  private func copy(
    _ parts: [WorkerCopy.Part], _ evaluation: Evaluation, _ call: Call, _ context: CallLoop,
    then next: @escaping () -> Void
  ) {
    let goOn = LoopBound { [self] (error: StatusError?) in
      if let reason = ending ?? error {
        phase = .receiving
        end(reason)
      } else {
        next()
      }
    }
    WorkerCopy.start(parts, evaluation, context.scheduler, call.group) { [context] error in
      context.loop.execute { goOn.value(error) }
    }
  }

  private func start(
    _ task: ForeignCall.Task, _ evaluation: Evaluation, _ call: Call, _ context: CallLoop
  ) {
    let foreign = ForeignCall(task, evaluation, call.group, deadline: call.deadline) { [self] in
      foreignDone($0)
    }
    self.foreign = foreign
    context.foreign.start(foreign)
  }

  private func foreignDone(_ foreign: ForeignCall) {
    self.foreign = nil
    withAll { job, call, context in
      if foreign.isGivenUp {
        lostEntry = job.evaluation?.entry
        job.giveSmall()
        self.job = nil
      }
      if let reason = ending ?? foreign.error {
        phase = .receiving
        return end(reason)
      }
      guard let evaluation = job.evaluation else { return }
      if evaluation.isComputed {
        return computed(job, evaluation, call, context)
      }
      phase = .receiving
      do throws(StatusError) {
        try context.checkSize(job, call)
        try start(job, evaluation, call, context)
      } catch { end(error) }
    }
  }

  // MARK: - The response

  private func computed() {
    withAll { job, call, context in
      job.withEvaluation { computed(job, $0, call, context) }
    }
  }

  private func computed(
    _ job: EvaluateJob, _ evaluation: Evaluation, _ call: Call, _ context: CallLoop
  ) {
    phase = .receiving
    if let reason = ending ?? evaluation.error { return end(reason) }
    do throws(StatusError) {
      let parts = try job.copyOut(evaluation)
      if !parts.isEmpty {
        phase = .running
        return copy(parts, evaluation, call, context) { [self] in
          phase = .receiving
          respond(job, call)
        }
      }
    } catch { return end(error) }
    respond(job, call)
  }

  private func respond(_ job: EvaluateJob, _ call: Call) {
    do throws(StatusError) {
      try job.respond(call, isLast: true)
      job.noteSuccess()
      finish(.ok)
    } catch {
      end(error)
    }
  }

  override func memoryReleased() {
    guard phase == .waitingForMemory else { return }
    withAll { job, call, context in
      guard let evaluation = job.evaluation else { return }
      do throws(StatusError) { try start(job, evaluation, call, context) } catch { end(error) }
    }
  }

  override var holding: Holding {
    switch phase {
    case .idle: .nothing
    case .preparing, .waitingForMemory, .running: .working
    case .receiving: .idle(steps: job?.payload == nil ? 0 : 1)
    }
  }

  override func cancel(_ reason: StatusError) {
    if phase == .running || phase == .preparing {
      if ending == nil { ending = reason }
      if let evaluation = job?.evaluation { context.object.scheduler.stop(evaluation) }
      if let foreign { context.object.foreign.stop(foreign) }
    } else {
      end(reason)
    }
  }

  private func end(_ error: StatusError) {
    guard let call else { return }
    finish(error.code)
    call.object.end(error)
  }

  /// Counts the call and lets go of what it used.
  private func finish(_ code: StatusCode) {
    context.with { context in
      if let lostEntry {
        context.metrics.counter(lostEntry.name).ended(code, nanoseconds: 0, rows: 0)
        self.lostEntry = nil
      } else if hasFunction, let job {
        Unretained(job).with { count(code, context, $0) }
      } else {
        context.metrics.methodEnded(method?.path ?? "", code)
      }
      if let job = job.take() { context.give(job) }
    }
    call = nil
    phase = .idle
  }

  private func count(_ code: StatusCode, _ context: CallLoop, _ job: EvaluateJob) {
    let time = Clock.now - job.completeTime
    job.withEvaluation { evaluation in
      job.withCounter(context.metrics, evaluation.entry) { counter in
        counter.ended(code, nanoseconds: time, rows: code == .ok ? evaluation.rows : 0)
      }
    }
  }
}
