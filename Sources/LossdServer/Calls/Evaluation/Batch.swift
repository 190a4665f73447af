import LossdEngine
import LossdTensor

/// The machine of every evaluation: one request, from its arrival to its response. A unary call is
/// one batch, a stream is many. Confined to its loop's thread.
///
///     received --> planned --> computing --> computed --> (sent by its call)
///
/// What runs elsewhere takes more steps: inputs are copied to where a plugin's process sees them
/// (`copyingIn`), the plugin plans, and computes what is small (`planning`), results are copied to
/// the client's memory (`copyingOut`), and a plugin that merges sums by itself adds the batch's
/// (`merging`). From every state a batch may fail; `stop` ends what is under way, and the batch
/// then fails by itself.
final class Batch {
  enum State {
    /// Its request arrives, or is there and waits for its turn.
    case received
    case copyingIn, planning
    /// It has its plan, and no memory yet.
    case planned
    case computing, copyingOut
    /// The results are there.
    case computed
    case merging
    /// `error` says why.
    case failed
  }

  let job = EvaluateJob()
  private(set) var state = State.received
  private(set) var error: StatusError?
  /// Workers copy inputs that stay out of its request.
  var isCopying = false
  /// A thread is stuck in it: it is not to be used again.
  private(set) var isGivenUp = false
  /// The stream's sums with the batch's, where its plugin has added them.
  private(set) var merged: Accumulator?
  private var foreign: ForeignCall?
  /// It has its batches, and outlives them.
  private var owner: Unretained<EvaluationHandler>?

  func begin(_ owner: EvaluationHandler) {
    assert(state == .received && foreign == nil && !isGivenUp, "a batch begins empty")
    self.owner = Unretained(owner)
  }

  /// Empty again, for another request.
  func reset() {
    job.reset()
    state = .received
    if error != nil { error = nil }
    if merged != nil { merged = nil }
    isCopying = false
    owner = nil
  }

  /// Something runs for it that ends by itself, or by `stop`.
  var isUnderWay: Bool {
    switch state {
    case .copyingIn, .planning, .computing, .copyingOut, .merging: true
    case .received, .planned, .computed, .failed: isCopying
    }
  }

  var isOver: Bool { state == .computed || state == .failed }

  /// Whether the inputs that it takes from requests before it have been copied.
  var hasInputs: Bool { !isCopying && (job.kept.isEmpty || job.kept.allSatisfy(\.isReady)) }

  /// Its plan is that of the request before.
  func repeats() {
    assert(state == .received)
    state = .planned
  }

  func fail(_ error: StatusError) {
    assert(foreign == nil, "what is under way ends first")
    self.error = error
    state = .failed
  }

  /// Asks what is under way to stop. Its end is told as any other.
  func stop(_ context: CallLoop) {
    guard isUnderWay else { return }
    if let evaluation = job.evaluation { context.scheduler.stop(evaluation) }
    if let foreign { context.foreign.stop(foreign) }
  }

  /// Goes on as far as it can without waiting: to `planned` where there is no memory now, to what
  /// runs elsewhere, or to its end.
  func advance(_ call: Call, _ context: CallLoop) {
    context.loop.assertConfined()
    assert((state == .received && hasInputs) || state == .planned)
    job.withEvaluation { evaluation in
      do throws(StatusError) {
        if state == .received { try plan(evaluation, call, context) }
        if state == .planned { try compute(evaluation, call, context) }
      } catch { fail(error) }
    }
  }

  // MARK: - received -> copyingIn, planning, planned

  private func plan(
    _ evaluation: Evaluation, _ call: Call, _ context: CallLoop
  ) throws(StatusError) {
    evaluation.deadline = call.deadline
    if !evaluation.entry.isForeign {
      try job.plan()
      try context.checkSize(job, call)
      state = .planned
      return
    }
    try evaluation.request.checkRequired()
    guard job.findCopiesIn(), let pool = context.foreign.pool(evaluation.entry) else {
      return planElsewhere(evaluation, call, context)
    }
    let parts = try job.copyIn(call, pool)
    state = .copyingIn
    copy(parts, evaluation, call, context) { [self] in
      job.copiedIn()
      planElsewhere(evaluation, call, context)
    }
  }

  private func planElsewhere(_ evaluation: Evaluation, _ call: Call, _ context: CallLoop) {
    state = .planning
    start(.prepare(job), evaluation, call, context)
  }

  // MARK: - planned -> computing, computed

  private func compute(
    _ evaluation: Evaluation, _ call: Call, _ context: CallLoop
  ) throws(StatusError) {
    guard try context.bind(job, call) else { return }
    evaluation.deadline = call.deadline
    if evaluation.entry.isForeign {
      state = .computing
      start(.run(job), evaluation, call, context)
    } else if job.shared.isEmpty && context.runInline(evaluation) {
      computed(evaluation)
    } else {
      state = .computing
      let bound = LoopBound((self, context))
      context.scheduler.submit(evaluation, group: call.group) { evaluation in
        bound.value.1.loop.execute {
          let (batch, context) = bound.value
          batch.computed(evaluation)
          batch.changed(context)
        }
      }
    }
  }

  private func computed(_ evaluation: Evaluation) {
    assert(state == .planned || state == .computing)
    if let error = evaluation.error { fail(error) } else { state = .computed }
  }

  // MARK: - What a plugin's function does

  private func start(
    _ task: ForeignCall.Task, _ evaluation: Evaluation, _ call: Call, _ context: CallLoop
  ) {
    let foreign = ForeignCall(task, evaluation, call.group, deadline: call.deadline) {
      [self, bound = Unretained(call)] foreign in
      foreignDone(foreign, bound.object, context)
    }
    self.foreign = foreign
    context.foreign.start(foreign)
  }

  private func foreignDone(_ foreign: ForeignCall, _ call: Call, _ context: CallLoop) {
    assert(
      self.foreign === foreign && (state == .planning || state == .computing || state == .merging))
    self.foreign = nil
    if foreign.isGivenUp {
      isGivenUp = true
      job.giveSmall()
    }
    do throws(StatusError) {
      if let error = foreign.error { throw error }
      guard let evaluation = job.evaluation else { return }
      switch state {
      case .merging:
        merged = foreign.total
        state = .computed
      case _ where evaluation.progress.isComputed: try bringOut(evaluation, call, context)
      default:
        try context.checkSize(job, call)
        state = .planned
      }
    } catch { fail(error) }
    changed(context)
  }

  /// Results that go to the client's memory are brought there.
  private func bringOut(
    _ evaluation: Evaluation, _ call: Call, _ context: CallLoop
  ) throws(StatusError) {
    let parts = try job.copyOut(evaluation)
    if parts.isEmpty {
      state = .computed
      return
    }
    state = .copyingOut
    copy(parts, evaluation, call, context) { [self] in state = .computed }
  }

  /// Has its plugin add its sums to those of the batches before: computed -> merging -> computed.
  /// - Parameter template: the stream's evaluation.
  func merge(into total: Accumulator, _ template: Evaluation, _ call: Call, _ context: CallLoop) {
    assert(state == .computed && merged == nil)
    guard let evaluation = job.evaluation else { return }
    state = .merging
    start(.merge(into: total, evaluation.progress.accumulator), template, call, context)
  }

  /// Has workers copy, and goes on, unless the copy has failed or the call is to end.
  private func copy(
    _ parts: [WorkerCopy.Part], _ evaluation: Evaluation, _ call: Call, _ context: CallLoop,
    then next: @escaping () -> Void
  ) {
    let goOn = LoopBound { [self] (error: StatusError?) in
      if let error = owner?.object.ending ?? error { fail(error) } else { next() }
      changed(context)
    }
    WorkerCopy.start(parts, evaluation, context.scheduler, call.group) { [context] error in
      context.loop.execute { goOn.value(error) }
    }
  }

  /// Something that ran elsewhere has ended.
  private func changed(_ context: CallLoop) {
    context.loop.assertConfined()
    owner?.object.batchChanged()
  }
}
