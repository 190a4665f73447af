import LossdTensor

// What a worker does with the call whose turn it is. The lock is held, but for what is done of the
// call.
extension WorkerThreads {
  func takeChunk(
    _ call: Evaluation, _ me: WorkerThread, _ own: AlignedBuffer, _ scratch: inout AlignedBuffer
  ) {
    // There is one as long as the call has not ended.
    guard let group = call.group else { return }
    let chunk = call.progress.nextChunk
    let hasChunk =
      call.progress.failure == nil && call.progress.stage < call.plan.stages.count
      && chunk < call.progress.chunkEnd
    if hasChunk {
      call.progress.nextChunk += 1
      call.progress.outstanding += 1
      // Behind the others of its group; nobody has to be woken for what was there already.
      if call.progress.nextChunk < call.progress.chunkEnd { queue.append(call, group) }
      let error: StatusError? = inside(call, me) {
        do throws(StatusError) {
          if scratch.count < call.plan.scratchBytes {
            // The old one first: a call takes its scratch once a worker.
            scratch = own
            scratch = try AlignedBuffer(reserving: call.plan.scratchBytes)
          }
        } catch { return error }
        return run(call, chunk, me.sums, scratch)
      }
      if me.isLost { return letGo(call) }
      call.progress.outstanding -= 1
      if error == nil { call.progress.accumulator.take(me.sums) }
      if let error, call.progress.failure == nil || chunk < (call.progress.failure?.chunk ?? 0) {
        queue.remove(call, group)
        call.progress.failure = (call.progress.stage, chunk, error)
      }
    }
    settle(call, group, me)
  }

  func perform(
    _ task: @escaping Evaluation.Task, _ call: Evaluation, _ me: WorkerThread,
    _ scratch: AlignedBuffer
  ) {
    call.task = nil
    if call.progress.failure == nil {
      let error: StatusError? = inside(call, me) {
        defer { clear(scratch, call) }
        do throws(StatusError) {
          try task(call, scratch)
          return nil
        } catch { return error }
      }
      if me.isLost { return letGo(call) }
      if let error { call.progress.failure = (call.progress.stage, 0, error) }
    }
    end(call)
  }

  /// Does something of a call without the lock, as what `me` is inside of.
  private func inside<Result>(
    _ call: Evaluation, _ me: WorkerThread, _ body: () -> Result
  ) -> Result {
    chunksTaken &+= 1
    me.call = call
    me.since = Clock.now
    let result = withoutLock {
      let result = body()
      if call.entry.isForeign { watch?.returned() }
      return result
    }
    me.call = nil
    return result
  }

  /// Goes on to the next stage, or ends the call, once its last chunk is back.
  private func settle(_ call: Evaluation, _ group: WorkGroup, _ me: WorkerThread) {
    guard call.progress.outstanding == 0, call.completion != nil, !call.progress.isSettling else {
      return
    }
    if call.progress.failure != nil { return end(call) }
    guard
      call.progress.stage >= call.plan.stages.count
        || call.progress.nextChunk == call.progress.chunkEnd
    else { return }
    // Nobody else can take a chunk now: the call waits no more and no chunk is running.
    call.progress.isSettling = true
    var goesOn = false
    let failure: StatusError? = inside(call, me) {
      do throws(StatusError) {
        if call.progress.stage < call.plan.stages.count { goesOn = try call.advance() }
        if !goesOn { try call.finishOutputs() }
        return nil
      } catch { return error }
    }
    if me.isLost { return letGo(call) }
    call.progress.isSettling = false
    if let failure { call.progress.failure = (call.progress.stage, 0, failure) }
    if goesOn && failure == nil {
      enqueue(call, group)
    } else {
      call.progress.isComputed = failure == nil
      end(call)
    }
  }

  private func end(_ call: Evaluation) {
    let completion = forget(call)
    withoutLock { completion?(call) }
  }

  /// The call is nobody's of these threads any more.
  func forget(_ call: Evaluation) -> (@Sendable (Evaluation) -> Void)? {
    let completion = call.completion
    call.completion = nil
    call.group = nil
    waiting -= 1
    return completion
  }

  private func run(
    _ call: Evaluation, _ chunk: Int, _ sums: ChunkSums, _ scratch: AlignedBuffer
  ) -> StatusError? {
    defer { clear(scratch, call) }
    do throws(StatusError) {
      try call.runChunk(chunk, sums: sums, scratch: scratch.base)
      return nil
    } catch { return error }
  }

  private func clear(_ scratch: AlignedBuffer, _ call: Evaluation) {
    guard clearsScratch, call.plan.scratchBytes > 0 else { return }
    scratch.base.initializeMemory(
      as: UInt8.self, repeating: 0, count: min(call.plan.scratchBytes, scratch.count))
  }

  /// A thread that was given up is back.
  private func letGo(_ call: Evaluation) {
    var owner = lost.cameBack(from: call)
    if owner != nil { withoutLock { owner = nil } }
  }
}
