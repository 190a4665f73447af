import LossdEngine
import LossdPluginHost
import LossdTensor
import LossdWire

// The memory of a job: reserved before it is taken, payload and results as one.
extension EvaluateJob {
  /// Where a payload of so many bytes goes that is small, and so the job's own; nil: elsewhere.
  func ownDestination(_ byteCount: Int) -> UnsafeMutableRawPointer? {
    payloadBytes = byteCount
    return byteCount <= ownPayload.count ? ownPayload.base : nil
  }

  /// Where a big payload goes. The evaluation has been begun and, unless it is a plugin's, planned,
  /// by the shapes and types in the message: what is wrong with them is known before a byte of it
  /// is read.
  func destination(_ byteCount: Int, _ context: CallLoop, _ call: Call) -> Destination {
    let account = charge(call)
    if let entry = evaluation?.entry, entry.isForeign {
      do throws(StatusError) {
        return try foreignDestination(byteCount, context, account, entry)
      } catch { return .refuse(error) }
    }
    // A stream's request of inputs that stay is no batch, and needs nothing to run.
    let needed = bringsBatch ? neededBytes(workers: context.scheduler.workers) : 0
    let (sum, overflow) = byteCount.addingReportingOverflow(needed)
    let bytes = overflow ? Int.max : sum
    if let budget = account.tooSmall(for: bytes) {
      return .refuse(
        StatusError(
          .resourceExhausted,
          "payload, results and working memory take \(bytes) bytes, over the limit of "
            + "\(budget.bytesMax) bytes in "
            + "flight (\(budget.setting))"))
    }
    if let shortage = account.reserve(bytes) { return .wait(shortage) }
    runReserved = needed
    do throws(StatusError) {
      let buffer = try PayloadBuffer(reserved: byteCount, account, context.pool)
      payload = buffer
      return .receive(buffer.base)
    } catch {
      account.release(byteCount)
      return .refuse(error)
    }
  }

  /// For a plugin's function the payload's memory alone is reserved: its plan takes a thread or a
  /// process, and reading from the connection must not wait for that.
  private func foreignDestination(
    _ byteCount: Int, _ context: CallLoop, _ account: MemoryBudget, _ entry: FunctionEntry
  ) throws(StatusError) -> Destination {
    if let budget = account.tooSmall(for: byteCount) {
      throw StatusError(
        .resourceExhausted,
        "the payload takes \(byteCount) bytes, over the limit of \(budget.bytesMax) bytes in "
          + "flight (\(budget.setting))"
      )
    }
    if let shortage = account.reserve(byteCount) { return .wait(shortage) }
    processes = context.foreign.pool(entry)
    do throws(StatusError) {
      let buffer = try buffer(byteCount, account, context.pool, isInput: true)
      payload = buffer
      return .receive(buffer.base)
    } catch {
      account.release(byteCount)
      throw error
    }
  }

  /// Memory of reserved bytes that the function's code can see.
  func buffer(
    _ bytes: Int, _ account: MemoryBudget, _ pool: BufferPool, isInput: Bool
  ) throws(StatusError) -> PayloadBuffer {
    guard let processes else { return try PayloadBuffer(reserved: bytes, account, pool) }
    let segments = processes.segments
    let segment = try segments.take(bytes, isInput: isInput, home: home, isFree: processes.isIdle)
    return PayloadBuffer(reserved: bytes, account, segment, of: segments)
  }

  /// Whether the request has an input that does not stay.
  var bringsBatch: Bool {
    guard let evaluation else { return false }
    return (0..<evaluation.entry.inputs.count).contains {
      evaluation.request.hasInput($0) && !evaluation.entry.isKept($0)
    }
  }

  /// What running takes beyond the job's own memory, bytes; 0 for a small call.
  func neededBytes(workers: Int) -> Int {
    guard let evaluation else { return 0 }
    return neededBytes(evaluation, workers: workers)
  }

  /// Each of them is at most 2^46 (`Evaluation` checks plans), so the sum does not overflow.
  private func neededBytes(_ evaluation: Evaluation, workers: Int) -> Int {
    (evaluation.plan.resultBytes > ownResults.count ? evaluation.plan.resultBytes : 0)
      + (evaluation.plan.workspaceBytes > EvaluateJob.ownWorkspaceBytes
        ? evaluation.plan.workspaceBytes : 0)
      + (evaluation.plan.scratchBytes > 1 << 16 ? evaluation.plan.scratchBytes * workers : 0)
  }

  /// Takes the memory for results and work; or returns where there is no room for it now.
  func bind(
    _ call: Call, _ pool: BufferPool, workers: Int
  ) throws(StatusError) -> Shortage? {
    guard let evaluation else { return nil }
    return try Unretained(evaluation).with { (evaluation) throws(StatusError) in
      try bind(evaluation, call, pool, workers: workers)
    }
  }

  private func bind(
    _ evaluation: Evaluation, _ call: Call, _ pool: BufferPool, workers: Int
  ) throws(StatusError) -> Shortage? {
    let needed = neededBytes(evaluation, workers: workers)
    if needed == 0 && runReserved == 0 && !evaluation.entry.isElsewhere {
      try evaluation.bind(
        results: ownResults.base,
        workspace: evaluation.plan.workspaceBytes > 0 ? ownWorkspace : nil)
      return nil
    }
    let account = charge(call)
    if needed > runReserved {
      if let shortage = account.reserve(needed - runReserved) { return shortage }
    } else if needed < runReserved {
      account.release(runReserved - needed)
    }
    runReserved = 0
    if evaluation.plan.scratchBytes > 1 << 16 {
      scratchReserved = evaluation.plan.scratchBytes * workers
    }
    if evaluation.plan.resultBytes > ownResults.count {
      do throws(StatusError) {
        results = try buffer(evaluation.plan.resultBytes, account, pool, isInput: false)
      } catch {
        // The scratch's is released by itself.
        runReserved = needed - scratchReserved
        throw error
      }
    }
    if evaluation.entry.isElsewhere {
      // Its process has its own workspace, which is reserved here.
      if evaluation.plan.workspaceBytes > EvaluateJob.ownWorkspaceBytes {
        runReserved = evaluation.plan.workspaceBytes
      }
      evaluation.bindAdopted(results: results?.base ?? ownResults.base)
      return nil
    }
    var memory: AlignedBuffer?
    if evaluation.plan.workspaceBytes > EvaluateJob.ownWorkspaceBytes {
      do throws(StatusError) {
        let buffer = try PayloadBuffer(reserved: evaluation.plan.workspaceBytes, account, pool)
        workspace = buffer
        memory = buffer.aligned
      } catch {
        runReserved = evaluation.plan.workspaceBytes
        throw error
      }
    } else if evaluation.plan.workspaceBytes > 0 {
      memory = ownWorkspace
    }
    try evaluation.bind(results: results?.base ?? ownResults.base, workspace: memory)
    return nil
  }
}
