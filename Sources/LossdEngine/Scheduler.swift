import CLinux
import Glibc
import LossdTensor

/// The calls of one connection that wait for workers. Belongs to the scheduler's lock.
public final class WorkGroup: @unchecked Sendable {
  fileprivate var calls: [Evaluation] = []
  fileprivate var cursor = 0
  fileprivate var isQueued = false
  public init() {}
}

/// Worker threads that take chunks in turn: connection by connection, within one call by call, so
/// that a huge call delays a small one by a chunk and not by itself.
///
/// `@unchecked Sendable`: everything mutable is touched with `lock` held only.
public final class Scheduler: @unchecked Sendable {
  public let workers: Int
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var groups: [WorkGroup] = []
  private var cursor = 0
  private var isStopping = false
  private var threads: [pthread_t] = []
  private var waiting = 0
  private var chunksTaken: UInt64 = 0

  public init(workers: Int) {
    self.workers = max(workers, 1)
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
    for _ in 0..<self.workers {
      var thread = pthread_t()
      // Retained for the thread's life; the thread's body takes it over.
      let me = Unmanaged.passRetained(self).toOpaque()
      let result = pthread_create(
        &thread, nil,
        { argument in
          guard let argument else { return nil }
          Unmanaged<Scheduler>.fromOpaque(argument).takeRetainedValue().work()
          return nil
        }, me)
      precondition(result == 0, "cannot start a worker thread")
      threads.append(thread)
    }
  }

  deinit {
    pthread_mutex_destroy(lock)
    pthread_cond_destroy(wake)
    lock.deallocate()
    wake.deallocate()
  }

  /// Stops the workers after their current chunks and waits for them. Queued calls are dropped.
  public func stop() {
    pthread_mutex_lock(lock)
    isStopping = true
    pthread_cond_broadcast(wake)
    pthread_mutex_unlock(lock)
    for thread in threads { pthread_join(thread, nil) }
    threads.removeAll()
  }

  /// Calls waiting or running.
  public var queueDepth: Int {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return waiting
  }

  /// Chunks handed out since the start, and whether any call waits or runs: whether the workers get on.
  public var progress: (chunksTaken: UInt64, isIdle: Bool) {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return (chunksTaken, waiting == 0)
  }

  /// Runs a planned and bound call; `completion` is called once, on a worker, with the error or nil.
  public func submit(
    _ evaluation: Evaluation, group: WorkGroup,
    completion: @escaping @Sendable (Evaluation) -> Void
  ) {
    pthread_mutex_lock(lock)
    evaluation.completion = completion
    waiting += 1
    enqueue(evaluation, group)
    pthread_mutex_unlock(lock)
  }

  private func enqueue(_ evaluation: Evaluation, _ group: WorkGroup) {
    group.calls.append(evaluation)
    if !group.isQueued {
      group.isQueued = true
      groups.append(group)
    }
    pthread_cond_broadcast(wake)
  }

  /// The next call in turn that has a chunk to hand out, and its group.
  private func next() -> (Evaluation, WorkGroup)? {
    while !groups.isEmpty {
      if cursor >= groups.count { cursor = 0 }
      let group = groups[cursor]
      if group.calls.isEmpty {
        group.isQueued = false
        groups.remove(at: cursor)
        continue
      }
      cursor += 1
      if group.cursor >= group.calls.count { group.cursor = 0 }
      let call = group.calls[group.cursor]
      group.cursor += 1
      return (call, group)
    }
    return nil
  }

  /// Workers are this much nicer than event loops, so that a loop gets a core at once when it wakes.
  private static let niceness: Int32 = 5

  private func work() {
    clinux_name_thread("lossd-worker")
    clinux_lower_priority(Scheduler.niceness)
    var scratch = AlignedBuffer(count: 4096)
    pthread_mutex_lock(lock)
    while true {
      guard let (call, group) = next() else {
        if isStopping { break }
        pthread_cond_wait(wake, lock)
        continue
      }
      if isStopping { break }
      if call.failure == nil, let stop = call.reasonToStop() {
        call.failure = (call.stage, -1, stop)
      }
      let chunk = call.nextChunk
      let hasChunk =
        call.failure == nil && call.stage < call.stages.count
        && chunk < call.stages[call.stage].chunks
      if hasChunk {
        call.nextChunk += 1
        chunksTaken &+= 1
        call.outstanding += 1
      }
      if !hasChunk || call.nextChunk == call.stages[call.stage].chunks { remove(call, group) }
      if hasChunk {
        pthread_mutex_unlock(lock)
        if scratch.count < call.scratchBytes { scratch = AlignedBuffer(count: call.scratchBytes) }
        let error = run(call, chunk, scratch)
        pthread_mutex_lock(lock)
        call.outstanding -= 1
        if let error, call.failure == nil || chunk < (call.failure?.chunk ?? 0) {
          if call.failure == nil { remove(call, group) }
          call.failure = (call.stage, chunk, error)
        }
      }
      settle(call, group)
    }
    pthread_mutex_unlock(lock)
  }

  /// Goes on to the next stage, or ends the call, once its last chunk is back.
  private func settle(_ call: Evaluation, _ group: WorkGroup) {
    guard call.outstanding == 0, call.completion != nil else { return }
    let isOver = call.failure != nil
    let isStageDone =
      call.stage >= call.stages.count || call.nextChunk == call.stages[call.stage].chunks
    guard isOver || isStageDone else { return }
    // Nobody else can reach the call now: it is out of its group and no chunk is running.
    let completion = call.completion
    call.completion = nil
    pthread_mutex_unlock(lock)
    var goesOn = false
    if !isOver && call.stage < call.stages.count { goesOn = call.advanceStage() }
    if !isOver && !goesOn {
      do throws(StatusError) { try call.finishOutputs() } catch {
        call.failure = (call.stage, 0, error)
      }
    }
    if !goesOn { completion?(call) }
    pthread_mutex_lock(lock)
    if goesOn {
      call.completion = completion
      enqueue(call, group)
    } else {
      waiting -= 1
    }
  }

  private func remove(_ call: Evaluation, _ group: WorkGroup) {
    guard let index = group.calls.firstIndex(where: { $0 === call }) else { return }
    group.calls.remove(at: index)
    if group.cursor > index { group.cursor -= 1 }
  }

  private func run(_ call: Evaluation, _ chunk: Int, _ scratch: AlignedBuffer) -> StatusError? {
    // The array is not resized while a stage runs; each chunk writes its own slots.
    let sums = call.sumsBase
    do throws(StatusError) {
      try call.runChunk(chunk, sums: sums, scratch: scratch.base)
      return nil
    } catch { return error }
  }
}

extension Evaluation {
  /// Why it ended badly, once its completion has been called; nil when it did well.
  public var error: StatusError? { failure?.error }

  /// Runs everything in this thread; `error` says how it ended.
  public func runToEnd(scratch: UnsafeMutableRawPointer) {
    do throws(StatusError) { try runInline(scratch: scratch) } catch {
      failure = (stage, 0, error)
    }
  }
}
