import LossdEngine
import LossdLoop
import LossdPluginHost
import LossdTensor

/// What the calls of one loop share: memory for their evaluations, the time that the loop itself
/// computes, and plugins' processes. Confined to the loop's thread.
class CallLoop: LoopContext, @unchecked Sendable {
  /// Of all connections together in one turn of the loop; what comes after goes to the workers, so
  /// that a turn stays short.
  static let inlineTurnCost = 400_000.0
  /// Kept from turn to turn.
  private static let sparesMax = 64

  let registry: Registry
  let scheduler: WorkerThreads

  /// What plugins' functions do apart from this loop.
  private(set) lazy var foreign = ForeignWork(self)

  private var scratch = AlignedBuffer(count: 1 << 16)
  private var inlineBudget = CallLoop.inlineTurnCost
  private var spareBatches: [Batch] = []

  override init(_ loop: Loop, _ daemon: DaemonState, _ limits: ServerLimits) {
    registry = daemon.registry
    scheduler = daemon.scheduler
    super.init(loop, daemon, limits)
  }

  /// Once a turn.
  func turnEnded() {
    inlineBudget = CallLoop.inlineTurnCost
    if spareBatches.count > CallLoop.sparesMax {
      // A connection that closes may leave thousands.
      Reaper.shared.drop(Array(spareBatches[CallLoop.sparesMax...]))
      spareBatches.removeLast(spareBatches.count - CallLoop.sparesMax)
    }
  }

  // MARK: - Batches

  func takeBatch() -> Batch {
    loop.assertConfined()
    return spareBatches.popLast() ?? Batch()
  }

  /// Takes a batch back, whose memory goes back to where it came from. It lives at least until the
  /// turn ends. One that a thread is stuck in is not used again: who holds its job keeps it until
  /// that thread is back.
  func give(_ batch: consuming Batch) {
    loop.assertConfined()
    if batch.isGivenUp { return }
    batch.reset()
    spareBatches.append(batch)
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
      let own =
        evaluation.plan.workspaceBytes + evaluation.plan.scratchBytes * plugin.settings.threads
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

  /// Runs a small evaluation at once; false when it is one for the workers. Its `error` says how it
  /// ended. The first of a turn may be larger: where calls come one by one it is the only one.
  func runInline(_ evaluation: Evaluation) -> Bool {
    let isFirst = inlineBudget == CallLoop.inlineTurnCost
    let most = isFirst ? WorkerThreads.loneCallCost : WorkerThreads.smallCallCost
    guard evaluation.plan.cost <= most, inlineBudget > 0,
      evaluation.plan.scratchBytes <= scratch.count
    else { return false }
    // Parsing and answering cost something too.
    inlineBudget -= evaluation.plan.cost + 1_000
    evaluation.runToEnd(scratch: scratch.base)
    return true
  }
}
