import LossdEngine
import LossdLoop
import LossdPluginHost
import LossdTensor

/// Carries an object that is confined to a loop's thread through a closure to that thread.
///
/// `@unchecked Sendable`: the value is used on the loop's thread alone; others only hold it.
struct LoopBound<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

/// What the calls of one loop share. Confined to the loop's thread, but for what is Sendable
/// itself.
///
/// `@unchecked Sendable`: others than the loop's thread use its constants only.
class LoopContext: @unchecked Sendable {
  /// Of all connections together in one turn of the loop; what comes after goes to the workers, so
  /// that a turn stays short.
  static let inlineTurnCost = 400_000.0
  /// Kept from turn to turn.
  private static let sparesMax = 64

  let loop: Loop
  let registry: Registry
  let scheduler: WorkerThreads
  let pool: BufferPool
  /// As they are now; a connection keeps those that it began with where its client was told them.
  var limits: ServerLimits
  /// nil: none is kept.
  var accessLog: AccessLog?
  let metrics = Metrics()
  /// The daemon's own, for the status.
  let daemon: DaemonState
  let deadlines: DeadlineQueue
  /// Calls and payloads that wait for memory.
  let waits: WaitQueue

  /// What plugins' functions do apart from this loop.
  private(set) lazy var foreign = ForeignWork(self)

  private var scratch = AlignedBuffer(count: 1 << 16)
  private var inlineBudget = LoopContext.inlineTurnCost
  private var spareJobs: [EvaluateJob] = []

  init(_ loop: Loop, _ daemon: DaemonState, _ limits: ServerLimits) {
    self.loop = loop
    self.daemon = daemon
    registry = daemon.registry
    scheduler = daemon.scheduler
    pool = daemon.pool
    self.limits = limits
    deadlines = DeadlineQueue(loop)
    waits = WaitQueue(deadlines, daemon)
  }

  /// Once a turn.
  func turnEnded() {
    inlineBudget = LoopContext.inlineTurnCost
    if spareJobs.count > LoopContext.sparesMax {
      // A connection that closes may leave thousands.
      Reaper.shared.drop(Array(spareJobs[LoopContext.sparesMax...]))
      spareJobs.removeLast(spareJobs.count - LoopContext.sparesMax)
    }
  }

  // MARK: - Jobs

  func takeJob() -> EvaluateJob {
    loop.assertConfined()
    return spareJobs.popLast() ?? EvaluateJob()
  }

  /// Takes a job back, whose memory goes back to where it came from. One that a thread is stuck in
  /// is not given back: who holds it keeps it until that thread is back. It lives at least until
  /// the turn ends.
  func give(_ job: consuming EvaluateJob) {
    loop.assertConfined()
    job.reset()
    spareJobs.append(job)
  }

  /// Refuses what could never be computed within the connection's memory.
  func checkSize(_ job: EvaluateJob, _ call: Call) throws(StatusError) {
    let needed = job.neededBytes(workers: scheduler.workers)
    if needed > 0, let budget = call.account.tooSmall(for: needed) {
      throw StatusError(
        .resourceExhausted,
        "results and working memory take \(needed) bytes, over the limit of \(budget.bytesMax) "
          + "bytes in flight (\(budget.setting))")
    }
    if let plugin = job.evaluation?.entry.owner as? IsolatedPlugin, let evaluation = job.evaluation
    {
      let own = evaluation.workspaceBytes + evaluation.scratchBytes * plugin.settings.threads
      if own > plugin.settings.memoryBytes {
        throw StatusError(
          .resourceExhausted,
          "\(evaluation.entry.name): working memory takes \(own) bytes, over plugins.memory, "
            + "\(plugin.settings.memoryBytes)")
      }
    }
  }

  /// Takes the memory that a job needs; false when it has to wait, and the call has been put on the
  /// list of those that do.
  func bind(_ job: EvaluateJob, _ call: Call) throws(StatusError) -> Bool {
    if let evaluation = job.evaluation, evaluation.entry.isElsewhere {
      job.processes = foreign.pool(evaluation.entry)
    }
    guard let shortage = try job.bind(call, pool, workers: scheduler.workers) else {
      call.stopWaitingForMemory()
      return true
    }
    // First in line, then tried again: memory released in between is not missed.
    call.waitForMemory(shortage)
    if let shortage = try job.bind(call, pool, workers: scheduler.workers) {
      call.waitForMemory(shortage)
      return false
    }
    call.stopWaitingForMemory()
    return true
  }

  /// What a call is told that has waited for memory for too long; `reason`: where there was no
  /// room.
  func memoryTimedOut(_ what: String, _ reason: String) -> StatusError {
    StatusError(
      .resourceExhausted,
      "no memory for \(what) within \(limits.waitTimeout / 1_000_000) ms (limits.wait_timeout): "
        + "\(reason)"
    )
  }

  /// Runs a small evaluation at once; false when it is one for the workers. Its `error` says how it
  /// ended. The first of a turn may be larger: where calls come one by one it is the only one.
  func runInline(_ evaluation: Evaluation) -> Bool {
    let isFirst = inlineBudget == LoopContext.inlineTurnCost
    let most = isFirst ? WorkerThreads.loneCallCost : WorkerThreads.smallCallCost
    guard evaluation.cost <= most, inlineBudget > 0, evaluation.scratchBytes <= scratch.count
    else { return false }
    // Parsing and answering cost something too.
    inlineBudget -= evaluation.cost + 1_000
    evaluation.runToEnd(scratch: scratch.base)
    return true
  }
}
