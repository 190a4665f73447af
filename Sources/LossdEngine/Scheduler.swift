import CLinux
import Glibc
import LossdTensor
import Synchronization

/// Worker threads that take chunks in turn: user by user, within one connection by connection,
/// within one call by call, so that a huge call delays a small one by a chunk and not by itself.
///
/// `@unchecked Sendable`: everything mutable is touched with `lock` held only.
public final class Scheduler: @unchecked Sendable {
  /// A call up to this, nanoseconds, is better computed by the thread that has it than handed to a
  /// worker, which may have to be woken.
  public static let smallCallCost = 30_000.0
  /// The same, where that thread has nothing else to do: waking a worker, and the thread again,
  /// takes as long.
  public static let loneCallCost = 100_000.0

  public let workers: Int
  /// Called on a worker's thread for every worker, before its first chunk.
  private let onStart: @Sendable () -> Void
  /// Scratch memory is zeros again after a call that used it.
  private let clearsScratch: Bool
  /// A callback that ends the process leaves a word behind; it can make no other process of it.
  private let watchesThreads: Bool
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var queue = WorkQueue()
  private var isStopping = false
  private var threads: [Worker] = []
  /// Those that were given up and not joined.
  private var lost: [Worker] = []
  /// Held while threads are renewed: one after the other.
  private let renewal = Mutex(())
  private var waiting = 0
  private var chunksTaken: UInt64 = 0

  /// One thread and what it is doing.
  private final class Worker: @unchecked Sendable {
    var thread = pthread_t()
    /// What it is inside of, and since when.
    var call: Evaluation?
    var since: UInt64 = 0
    /// Its callback did not return in time: another thread has its place.
    var isGivenUp = false
    /// The same, and it is back, and about to end.
    var isBack = false
    /// It ends after what it is doing; another thread has its place.
    var isRetiring = false
  }

  public init(
    workers: Int, clearsScratch: Bool = false, watchesThreads: Bool = false,
    onStart: @escaping @Sendable () -> Void = {}
  ) {
    self.workers = max(workers, 1)
    self.clearsScratch = clearsScratch
    self.watchesThreads = watchesThreads
    self.onStart = onStart
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
    pthread_mutex_lock(lock)
    for _ in 0..<self.workers { precondition(startWorker(), "cannot start a worker thread") }
    pthread_mutex_unlock(lock)
  }

  deinit {
    // A group that waits and its user hold each other.
    while queue.next() != nil {}
    pthread_mutex_destroy(lock)
    pthread_cond_destroy(wake)
    lock.deallocate()
    wake.deallocate()
  }

  private func startWorker() -> Bool {
    final class Start {
      let scheduler: Scheduler
      let worker: Worker
      init(_ scheduler: Scheduler, _ worker: Worker) {
        self.scheduler = scheduler
        self.worker = worker
      }
    }
    let worker = Worker()
    // Retained for the thread's life; the thread's body takes it over.
    let start = Unmanaged.passRetained(Start(self, worker))
    let result = pthread_create(
      &worker.thread, nil,
      { argument in
        guard let argument else { return nil }
        let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        start.scheduler.work(start.worker)
        return nil
      }, start.toOpaque())
    if result != 0 {
      start.release()
      return false
    }
    threads.append(worker)
    return true
  }

  /// Stops the workers after their current chunks and waits for them, but for those whose callback
  /// does not return. Queued calls are dropped.
  public func stop() {
    pthread_mutex_lock(lock)
    isStopping = true
    pthread_cond_broadcast(wake)
    // Who retires a thread waits for it.
    let threads = self.threads.filter { !$0.isRetiring }
    self.threads.removeAll { !$0.isRetiring }
    pthread_mutex_unlock(lock)
    for worker in threads { pthread_join(worker.thread, nil) }
  }

  /// Calls waiting or running.
  public var queueDepth: Int {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return waiting
  }

  /// Chunks handed out since the start, and whether any call waits or runs: whether the workers get
  /// on.
  public var progress: (chunksTaken: UInt64, isIdle: Bool) {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return (chunksTaken, waiting == 0)
  }

  /// Runs a planned and bound call; `completion` is called once, on a worker.
  public func submit(
    _ evaluation: Evaluation, group: WorkGroup,
    completion: @escaping @Sendable (Evaluation) -> Void
  ) {
    submit(evaluation, group, nil, completion)
  }

  /// Stops a call: it ends after the chunks that are running, however many others wait. Any thread.
  public func stop(_ evaluation: Evaluation) {
    evaluation.stop()
    pthread_mutex_lock(lock)
    if let group = evaluation.group { queue.hurry(evaluation, group) }
    pthread_mutex_unlock(lock)
  }

  /// Plans a call whose plan may take its time, on a worker, and computes it there where it fits
  /// into `small`. `completion` is called once, on a worker; the call's `isComputed` says whether
  /// it is done.
  public func prepare(
    _ evaluation: Evaluation, small: SmallMemory, group: WorkGroup,
    completion: @escaping @Sendable (Evaluation) -> Void
  ) {
    let task: Evaluation.Task = { (call, scratch) throws(StatusError) in
      try call.prepare(small, scratch: scratch)
    }
    submit(evaluation, group, task, completion)
  }

  /// Does something for a call on a worker, before or after its own work; `completion` is called
  /// there, once.
  public func perform(
    _ evaluation: Evaluation, group: WorkGroup,
    _ work: @escaping @Sendable () throws(StatusError) -> Void,
    completion: @escaping @Sendable (Evaluation) -> Void
  ) {
    let task: Evaluation.Task = { (_, _) throws(StatusError) in try work() }
    submit(evaluation, group, task, completion)
  }

  /// Computes the values of some sums on a worker; `completion` gets them there, none where it
  /// failed.
  public func finish(
    _ evaluation: Evaluation, _ total: Accumulator, group: WorkGroup,
    completion: @escaping @Sendable ([Double?]) -> Void
  ) {
    let values = Box<[Double?]>([])
    let task: Evaluation.Task = { (call, _) throws(StatusError) in
      let result = try call.summaryValues(total)
      values.content.withLock { $0 = result }
    }
    submit(evaluation, group, task) { _ in completion(values.content.withLock { $0 }) }
  }

  /// Adds some sums to others on a worker; `completion` gets the total there, unchanged where it
  /// failed.
  public func merge(
    _ evaluation: Evaluation, _ into: Accumulator, _ part: Accumulator, group: WorkGroup,
    completion: @escaping @Sendable (Accumulator) -> Void
  ) {
    let total = Box(into)
    let task: Evaluation.Task = { (call, _) throws(StatusError) in
      var sum = into
      try sum.merge(part, call.entry)
      let result = sum
      total.content.withLock { $0 = result }
    }
    submit(evaluation, group, task) { _ in completion(total.content.withLock { $0 }) }
  }

  private final class Box<Content: Sendable>: Sendable {
    let content: Mutex<Content>
    init(_ content: Content) { self.content = Mutex(content) }
  }

  private func submit(
    _ evaluation: Evaluation, _ group: WorkGroup, _ task: Evaluation.Task?,
    _ completion: @escaping @Sendable (Evaluation) -> Void
  ) {
    pthread_mutex_lock(lock)
    evaluation.task = task
    evaluation.completion = completion
    evaluation.group = group
    waiting += 1
    enqueue(evaluation, group)
    if evaluation.stopped.load(ordering: .relaxed) { queue.hurry(evaluation, group) }
    pthread_mutex_unlock(lock)
  }

  private func enqueue(_ evaluation: Evaluation, _ group: WorkGroup) {
    queue.append(evaluation, group)
    pthread_cond_broadcast(wake)
  }

  /// Workers are this much nicer than event loops, so that a loop gets a core at once when it
  /// wakes.
  private static let niceness: Int32 = 5
  /// What a worker keeps of the scratch memory of calls before, bytes, while nothing waits.
  private static let keptScratchBytesMax = 1 << 20

  private func work(_ me: Worker) {
    clinux_name_thread("lossd-worker")
    clinux_lower_priority(Scheduler.niceness)
    if watchesThreads { clinux_watch_thread(CLINUX_WATCH_ALL) }
    defer { if watchesThreads { clinux_unwatch_thread() } }
    onStart()
    let own = AlignedBuffer.zeroed(count: SmallMemory.scratchBytes)
    var scratch = own
    pthread_mutex_lock(lock)
    while !me.isGivenUp && !me.isRetiring {
      guard let (call, group) = queue.next() else {
        if isStopping { break }
        if scratch.count > Scheduler.keptScratchBytesMax {
          // Nobody's account has it while nobody computes. Freed without the lock: that takes its
          // time.
          pthread_mutex_unlock(lock)
          scratch = own
          pthread_mutex_lock(lock)
        } else {
          pthread_cond_wait(wake, lock)
        }
        continue
      }
      if isStopping { break }
      if call.failure == nil, let stop = call.reasonToStop() {
        call.failure = (call.stage, -1, stop)
      }
      if let task = call.task {
        perform(task, call, me, own)
      } else {
        takeChunk(call, group, me, own, &scratch)
      }
    }
    me.isBack = true
    if me.isRetiring {
      threads.removeAll { $0 === me }
      pthread_cond_broadcast(wake)
    }
    pthread_mutex_unlock(lock)
  }

  private func takeChunk(
    _ call: Evaluation, _ group: WorkGroup, _ me: Worker, _ own: AlignedBuffer,
    _ scratch: inout AlignedBuffer
  ) {
    let chunk = call.nextChunk
    let hasChunk =
      call.failure == nil && call.stage < call.stages.count && chunk < call.chunkEnd
    if hasChunk {
      call.nextChunk += 1
      call.outstanding += 1
      // Behind the others of its group; nobody has to be woken for what was there already.
      if call.nextChunk < call.chunkEnd { queue.append(call, group) }
      let error: StatusError? = inside(call, me) {
        do throws(StatusError) {
          if scratch.count < call.scratchBytes {
            // The old one first: a call takes its scratch once a worker.
            scratch = own
            scratch = try AlignedBuffer(reserving: call.scratchBytes)
          }
        } catch { return error }
        return run(call, chunk, scratch)
      }
      if me.isGivenUp { return letGo(call) }
      call.outstanding -= 1
      if let error, call.failure == nil || chunk < (call.failure?.chunk ?? 0) {
        queue.remove(call)
        call.failure = (call.stage, chunk, error)
      }
    }
    settle(call, group, me)
  }

  private func perform(
    _ task: @escaping Evaluation.Task, _ call: Evaluation, _ me: Worker, _ scratch: AlignedBuffer
  ) {
    call.task = nil
    if call.failure == nil {
      let error: StatusError? = inside(call, me) {
        defer { clear(scratch, call) }
        do throws(StatusError) {
          try task(call, scratch)
          return nil
        } catch { return error }
      }
      if me.isGivenUp { return letGo(call) }
      if let error { call.failure = (call.stage, 0, error) }
    }
    end(call)
  }

  /// Does something of a call without the lock, as what `me` is inside of.
  private func inside<Result>(
    _ call: Evaluation, _ me: Worker, _ body: () -> Result
  ) -> Result {
    chunksTaken &+= 1
    me.call = call
    me.since = Clock.now
    pthread_mutex_unlock(lock)
    let result = body()
    // A callback may have blocked signals, without which the next one's crash would be nobody's.
    if watchesThreads && call.entry.isForeign { clinux_restore_thread() }
    pthread_mutex_lock(lock)
    me.call = nil
    return result
  }

  /// Goes on to the next stage, or ends the call, once its last chunk is back.
  private func settle(_ call: Evaluation, _ group: WorkGroup, _ me: Worker) {
    guard call.outstanding == 0, call.completion != nil, !call.isSettling else { return }
    let isOver = call.failure != nil
    let isStretchDone = call.stage >= call.stages.count || call.nextChunk == call.chunkEnd
    guard isOver || isStretchDone else { return }
    if isOver { return end(call) }
    // Nobody else can take a chunk now: the call waits no more and no chunk is running.
    call.isSettling = true
    var goesOn = false
    let failure: StatusError? = inside(call, me) {
      do throws(StatusError) {
        if call.stage < call.stages.count { goesOn = try call.advance() }
        if !goesOn { try call.finishOutputs() }
        return nil
      } catch { return error }
    }
    if me.isGivenUp { return letGo(call) }
    call.isSettling = false
    if let failure { call.failure = (call.stage, 0, failure) }
    if goesOn && failure == nil {
      enqueue(call, group)
    } else {
      call.isComputed = failure == nil
      end(call)
    }
  }

  private func end(_ call: Evaluation) {
    let completion = call.completion
    call.completion = nil
    call.group = nil
    waiting -= 1
    pthread_mutex_unlock(lock)
    completion?(call)
    pthread_mutex_lock(lock)
  }

  private func run(_ call: Evaluation, _ chunk: Int, _ scratch: AlignedBuffer) -> StatusError? {
    defer { clear(scratch, call) }
    // The array is not resized while a stage runs; each chunk writes its own slots.
    let sums = call.sumsBase
    do throws(StatusError) {
      try call.runChunk(chunk, sums: sums, scratch: scratch.base)
      return nil
    } catch { return error }
  }

  private func clear(_ scratch: AlignedBuffer, _ call: Evaluation) {
    guard clearsScratch, call.scratchBytes > 0 else { return }
    scratch.base.initializeMemory(
      as: UInt8.self, repeating: 0, count: min(call.scratchBytes, scratch.count))
  }

  // MARK: - Callbacks that do not return

  /// Since when a thread has been inside of the call, the longest where there are several; nil:
  /// none is.
  public func insideSince(_ evaluation: Evaluation) -> UInt64? {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return threads.filter { $0.call === evaluation }.map(\.since).min()
  }

  /// Gives up a call whose callback does not return: fresh threads take the places of those inside
  /// of it, and `owner`, which owns the call's memory, is kept until the last of them is back, if
  /// ever. The completion is not called any more. False, and nothing has changed, where no thread
  /// is inside: the call ends by itself.
  public func giveUp(_ evaluation: Evaluation, keeping owner: AnyObject) -> Bool {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    let stuck = threads.filter { $0.call === evaluation }
    guard evaluation.completion != nil, !stuck.isEmpty else { return false }
    for worker in stuck {
      // Where no thread can be had, one fewer computes. One that is retiring has been replaced
      // already.
      if !worker.isRetiring { _ = startWorker() }
      lost.append(worker)
      worker.isGivenUp = true
    }
    queue.remove(evaluation)
    threads.removeAll { $0.isGivenUp }
    // Who waits for one that is retiring waits no longer.
    pthread_cond_broadcast(wake)
    evaluation.pinned = owner
    evaluation.stuckThreads = stuck.count
    evaluation.completion = nil
    evaluation.group = nil
    waiting -= 1
    return true
  }

  /// Exchanges every thread for a fresh one, and waits until those before have ended: what a
  /// library has left in them for their end, they have then done. Returns false where one is not
  /// back from a callback, and may never be. Takes as long as what the threads are doing: not for a
  /// loop's thread, nor for one of these.
  public func renewThreads() -> Bool {
    renewal.withLock { _ in
      pthread_mutex_lock(lock)
      var old = isStopping ? [] : threads
      // One that cannot be replaced goes on.
      old = old.filter { _ in startWorker() }
      for worker in old { worker.isRetiring = true }
      pthread_cond_broadcast(wake)
      while old.contains(where: { !$0.isBack && !$0.isGivenUp }) { pthread_cond_wait(wake, lock) }
      let back = old.filter { $0.isBack && !$0.isGivenUp } + lost.filter { $0.isBack }
      lost.removeAll { $0.isBack }
      let isAnyLost = !lost.isEmpty
      pthread_mutex_unlock(lock)
      for worker in back { pthread_join(worker.thread, nil) }
      return !isAnyLost
    }
  }

  /// A thread that was given up is back.
  private func letGo(_ call: Evaluation) {
    call.stuckThreads -= 1
    if call.stuckThreads > 0 { return }
    let owner = call.pinned
    call.pinned = nil
    pthread_mutex_unlock(lock)
    withExtendedLifetime(owner) {}
    pthread_mutex_lock(lock)
  }
}

extension SmallMemory {
  /// Every worker has so much scratch memory, bytes.
  static let scratchBytes = 1 << 16
}

extension Evaluation {
  /// Why it ended badly, once its completion has been called; nil when it did well.
  public var error: StatusError? { failure?.error }

  /// Runs everything in this thread; `error` says how it ended.
  public func runToEnd(scratch: UnsafeMutableRawPointer) {
    do throws(StatusError) {
      try runInline(scratch: scratch)
      isComputed = true
    } catch {
      failure = (stage, 0, error)
    }
  }
}
