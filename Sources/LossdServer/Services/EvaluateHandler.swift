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
  private unowned(unsafe) let context: LoopContext
  private var call: Call?
  private var job: EvaluateJob?
  private var phase = Phase.idle
  private var hasRequest = false
  private var entry: FunctionEntry?
  /// What a plugin's function is doing.
  private var foreign: ForeignCall?
  /// Why the call is to end once its work has stopped.
  private var ending: StatusError?

  init(_ context: LoopContext) { self.context = context }

  override func begin(_ call: Call) {
    self.call = call
    phase = .receiving
    hasRequest = false
    entry = nil
    ending = nil
  }

  override func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {
    guard let call else { return }
    if hasRequest {
      throw StatusError(.invalidArgument, "a second request of a method that takes one")
    }
    hasRequest = true
    let job = context.takeJob()
    self.job = job
    try job.decode(message, call.account)
  }

  override func destination(_ byteCount: Int) -> Destination {
    guard let call, let job else { return .wait }
    let context = self.context
    return job.destination(
      byteCount, context, call.account,
      prepare: { () throws(StatusError) in
        _ = try job.beginEvaluation(context.registry.table, call, mayPlace: true)
      }, setInputs: { () throws(StatusError) in try job.setInputs(call, isPlanning: true) })
  }

  override func requestComplete(isLast: Bool) {
    // Without END_STREAM the call waits: for a second request, which is one too many.
    guard isLast, let job, let call else { return }
    job.completeTime = Clock.now
    do throws(StatusError) {
      if job.repeats(), let evaluation = job.evaluation {
        entry = evaluation.entry
        call.functionFound(evaluation.entry)
        evaluation.deadline = call.deadline
        return try start()
      }
      let entry = try job.beginEvaluation(context.registry.table, call, mayPlace: true)
      self.entry = entry
      call.functionFound(entry)
      try job.setInputs(call)
      guard let evaluation = job.evaluation else { return }
      evaluation.deadline = call.deadline
      if evaluation.entry.isForeign {
        try evaluation.checkRequired()
        phase = .preparing
        try prepare(job, evaluation, call)
      } else {
        try evaluation.makePlan()
        try context.checkSize(job, call)
        try start()
      }
    } catch {
      end(error)
    }
  }

  private func start() throws(StatusError) {
    guard let call, let job, let evaluation = job.evaluation else { return }
    guard try context.bind(job, call) else {
      phase = .waitingForMemory
      return
    }
    phase = .running
    if evaluation.entry.isForeign {
      start(.run(job), evaluation)
    } else if context.runInline(evaluation) {
      computed()
    } else {
      let me = LoopBound(self)
      let context = self.context
      context.scheduler.submit(evaluation, group: call.group) { _ in
        context.loop.execute { me.value.computed() }
      }
    }
  }

  // MARK: - A plugin's function

  private func prepare(
    _ job: EvaluateJob, _ evaluation: Evaluation, _ call: Call
  ) throws(StatusError) {
    guard job.hasCopiesIn, let pool = context.foreign.pool(evaluation.entry) else {
      return start(.prepare(job), evaluation)
    }
    perform(try job.copyIn(call, pool), evaluation, call) { [self] in
      job.copiedIn()
      start(.prepare(job), evaluation)
    }
  }

  /// Has a worker copy what the client shares, and goes on, unless the call is to end.
  private func perform(
    _ work: @escaping @Sendable () throws(StatusError) -> Void, _ evaluation: Evaluation,
    _ call: Call, then next: @escaping () -> Void
  ) {
    let goOn = LoopBound { [self] (error: StatusError?) in
      if let reason = ending ?? error {
        phase = .receiving
        end(reason)
      } else {
        next()
      }
    }
    let context = self.context
    context.scheduler.perform(evaluation, group: call.group, work) { evaluation in
      let error = evaluation.error
      context.loop.execute { goOn.value(error) }
    }
  }

  private func start(_ task: ForeignCall.Task, _ evaluation: Evaluation) {
    guard let call else { return }
    let foreign = ForeignCall(task, evaluation, call.group, deadline: call.deadline) { [self] in
      foreignDone($0)
    }
    self.foreign = foreign
    context.foreign.start(foreign)
  }

  private func foreignDone(_ foreign: ForeignCall) {
    self.foreign = nil
    guard let call, let job else { return }
    if foreign.isGivenUp { self.job = nil }
    if let reason = ending ?? foreign.error {
      phase = .receiving
      end(reason)
    } else if job.evaluation?.isComputed ?? false {
      computed()
    } else {
      phase = .receiving
      do throws(StatusError) {
        try context.checkSize(job, call)
        try start()
      } catch { end(error) }
    }
  }

  private func computed() {
    guard let call, let job else { return }
    phase = .receiving
    if let reason = ending ?? job.evaluation?.error {
      end(reason)
      return
    }
    do throws(StatusError) {
      if let evaluation = job.evaluation, let work = try job.copyOut() {
        phase = .running
        return perform(work, evaluation, call) { [self] in
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
    do throws(StatusError) { try start() } catch { end(error) }
  }

  override func cancel(_ reason: StatusError) {
    if phase == .running || phase == .preparing {
      if ending == nil { ending = reason }
      job?.evaluation?.stop()
      if let foreign { context.foreign.stop(foreign) }
    } else {
      end(reason)
    }
  }

  private func end(_ error: StatusError) {
    guard let call else { return }
    finish(error.code)
    call.end(error)
  }

  /// Counts the call and lets go of what it used.
  private func finish(_ code: StatusCode) {
    if let entry {
      let counter = job?.counter(context.metrics) ?? context.metrics.counter(entry.name)
      let time = job.map { Clock.now - $0.completeTime } ?? 0
      counter.ended(code, nanoseconds: time, rows: code == .ok ? job?.evaluation?.rows ?? 0 : 0)
    } else {
      context.metrics.methodEnded(.evaluate, code)
    }
    if let job { context.give(job) }
    job = nil
    call = nil
    entry = nil
    phase = .idle
  }
}
