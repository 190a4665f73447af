import LossdEngine
import LossdTensor
import LossdWire

/// Evaluate: one request, one response.
final class EvaluateHandler: CallHandler {
  private enum Phase {
    case idle, receiving, waitingForMemory, running
  }

  private unowned let context: LoopContext
  private var call: Call?
  private var job: EvaluateJob?
  private var phase = Phase.idle
  private var hasRequest = false
  private var entry: FunctionEntry?
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
      byteCount, context.pool, call.account, workers: context.scheduler.workers
    ) { () throws(StatusError) in
      _ = try job.beginEvaluation(context.registry.table)
    }
  }

  override func requestComplete(isLast: Bool) {
    // Without END_STREAM the call waits: for a second request, which is one too many.
    guard isLast, let job else { return }
    job.completeTime = Clock.now
    do throws(StatusError) {
      let entry = try job.beginEvaluation(context.registry.table)
      self.entry = entry
      call?.functionFound(entry)
      try job.setInputs()
      try job.evaluation?.makePlan()
      try admit(job)
    } catch {
      end(error)
    }
  }

  private func admit(_ job: EvaluateJob) throws(StatusError) {
    guard let call else { return }
    try context.checkSize(job, call)
    start()
  }

  private func start() {
    guard let call, let job, let evaluation = job.evaluation else { return }
    guard context.bind(job, call) else {
      phase = .waitingForMemory
      return
    }
    evaluation.deadline = call.deadline
    phase = .running
    if context.runInline(evaluation) {
      computed()
    } else {
      let me = LoopBound(self)
      let context = self.context
      context.scheduler.submit(evaluation, group: call.group) { _ in
        context.loop.execute { me.value.computed() }
      }
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
      try job.respond(call, isLast: true)
      finish(.ok)
    } catch {
      end(error)
    }
  }

  override func memoryReleased() {
    if phase == .waitingForMemory { start() }
  }

  override func cancel(_ reason: StatusError) {
    if phase == .running {
      if ending == nil { ending = reason }
      job?.evaluation?.stop()
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
      let time = job.map { Clock.now - $0.completeTime } ?? 0
      context.metrics.functionEnded(
        entry.name, code, nanoseconds: time,
        rows: code == .ok ? job?.evaluation?.rows ?? 0 : 0)
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
