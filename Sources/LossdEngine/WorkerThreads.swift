import CLinux
import Glibc
import LossdTensor
import Synchronization

/// What the program does on its workers' threads, which run others' code too. The engine knows
/// nothing of it. Each is called on the worker's own thread.
public struct ThreadWatch: Sendable {
  /// Before the worker's first chunk.
  public var begin: @Sendable () -> Void
  /// After each thing that the worker has done for a function of a library.
  public var returned: @Sendable () -> Void
  /// Before the thread ends.
  public var end: @Sendable () -> Void

  public init(
    begin: @escaping @Sendable () -> Void = {}, returned: @escaping @Sendable () -> Void = {},
    end: @escaping @Sendable () -> Void = {}
  ) {
    self.begin = begin
    self.returned = returned
    self.end = end
  }
}

/// The threads that compute. They take chunks in turn out of a `FairQueue`, so that a huge call
/// delays a small one by a chunk and not by itself. `WorkerThreads+calls` has what they can be
/// given.
///
/// `@unchecked Sendable`: everything mutable is touched with `lock` held only.
public final class WorkerThreads: @unchecked Sendable {
  /// A call up to this, nanoseconds, is better computed by the thread that has it than handed to a
  /// worker, which may have to be woken.
  public static let smallCallCost = 30_000.0
  /// The same, where that thread has nothing else to do: waking a worker, and the thread again,
  /// takes as long.
  public static let loneCallCost = 100_000.0
  /// Workers are this much nicer than event loops, so that a loop gets a core at once when it
  /// wakes.
  private static let niceness: Int32 = 5
  /// What a worker keeps of the scratch memory of calls before, bytes, while nothing waits.
  private static let keptScratchBytesMax = 1 << 20

  /// How many compute.
  public let workers: Int
  let watch: ThreadWatch?
  /// Scratch memory is zeros again after a call that used it.
  let clearsScratch: Bool
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  var queue = FairQueue()
  private var isStopping = false
  private var threads: [WorkerThread] = []
  var lost = LostThreads()
  /// Held while threads are renewed: one after the other.
  private let renewal = Mutex(())
  var waiting = 0
  var chunksTaken: UInt64 = 0

  /// Starts so many, at least one. `clearsScratch`: no call finds in its scratch memory what
  /// another left there.
  public init(workers: Int, clearsScratch: Bool = false, watch: ThreadWatch? = nil) {
    self.workers = max(workers, 1)
    self.clearsScratch = clearsScratch
    self.watch = watch
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
    withLock {
      for _ in 0..<self.workers { precondition(startThread(), "cannot start a worker thread") }
    }
  }

  deinit {
    while queue.next() != nil {}
    pthread_mutex_destroy(lock)
    pthread_cond_destroy(wake)
    lock.deallocate()
    wake.deallocate()
  }

  @inline(__always)
  private func withLock<Result>(_ body: () -> Result) -> Result {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return body()
  }

  /// The opposite: `body` runs without the lock, which is held around.
  @inline(__always)
  func withoutLock<Result>(_ body: () -> Result) -> Result {
    pthread_mutex_unlock(lock)
    defer { pthread_mutex_lock(lock) }
    return body()
  }

  private func startThread() -> Bool {
    final class Start {
      let workers: WorkerThreads
      let me: WorkerThread
      init(_ workers: WorkerThreads, _ me: WorkerThread) {
        self.workers = workers
        self.me = me
      }
    }
    let worker = WorkerThread()
    // Retained for the thread's life; the thread's body takes it over.
    let start = Unmanaged.passRetained(Start(self, worker))
    let result = pthread_create(
      &worker.thread, nil,
      { argument in
        guard let argument else { return nil }
        let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        start.workers.work(start.me)
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
    let ending = withLock {
      isStopping = true
      pthread_cond_broadcast(wake)
      // Who retires a thread waits for it.
      let ending = threads.filter { !$0.isRetiring }
      threads.removeAll { !$0.isRetiring }
      return ending
    }
    for worker in ending { pthread_join(worker.thread, nil) }
  }

  /// Calls waiting or running.
  public var queueDepth: Int { withLock { waiting } }

  /// Chunks handed out since the start, and whether any call waits or runs: whether the workers get
  /// on.
  public var progress: (chunksTaken: UInt64, isIdle: Bool) {
    withLock { (chunksTaken, waiting == 0) }
  }

  // MARK: - What waits

  /// `task`: what a worker does before, or in place of, the call's chunks.
  func submit(
    _ evaluation: Evaluation, _ group: WorkGroup, _ task: Evaluation.Task?,
    _ completion: @escaping @Sendable (Evaluation) -> Void
  ) {
    withLock {
      evaluation.task = task
      evaluation.completion = completion
      evaluation.group = group
      waiting += 1
      enqueue(evaluation, group)
      if evaluation.isAskedToStop { queue.hurry(evaluation, group) }
    }
  }

  func enqueue(_ evaluation: Evaluation, _ group: WorkGroup) {
    queue.append(evaluation, group)
    pthread_cond_broadcast(wake)
  }

  /// Stops a call: it ends after the chunks that are running, however many others wait. Any thread.
  public func stop(_ evaluation: Evaluation) {
    evaluation.stop()
    withLock {
      if let group = evaluation.group { queue.hurry(evaluation, group) }
    }
  }

  // MARK: - A worker's life

  private func work(_ me: WorkerThread) {
    clinux_name_thread("lossd-worker")
    clinux_lower_priority(WorkerThreads.niceness)
    watch?.begin()
    defer { watch?.end() }
    let own = AlignedBuffer.zeroed(count: SmallMemory.scratchBytes)
    var scratch = own
    withLock {
      while !me.isReplaced {
        guard let call = queue.next() else {
          if isStopping { break }
          if scratch.count > WorkerThreads.keptScratchBytesMax {
            // Nobody's account has it while nobody computes. Freed without the lock: that takes its
            // time.
            withoutLock { scratch = own }
          } else {
            pthread_cond_wait(wake, lock)
          }
          continue
        }
        if isStopping { break }
        if call.progress.failure == nil, let stop = call.reasonToStop() {
          call.progress.failure = (call.progress.stage, -1, stop)
        }
        if let task = call.task {
          perform(task, call, me, own)
        } else {
          takeChunk(call, me, own, &scratch)
        }
      }
      me.isBack = true
      if me.isRetiring {
        threads.removeAll { $0 === me }
        pthread_cond_broadcast(wake)
      }
    }
  }

  // MARK: - Callbacks that do not return

  /// Since when a thread has been inside of the call, the longest where there are several; nil:
  /// none is.
  public func insideSince(_ evaluation: Evaluation) -> UInt64? {
    withLock { LostThreads.insideSince(evaluation, threads) }
  }

  /// Gives up a call whose callback does not return: fresh threads take the places of those inside
  /// of it, and `owner`, which owns the call's memory, is kept until the last of them is back, if
  /// ever. The completion is not called any more. False, and nothing has changed, where no thread
  /// is inside: the call ends by itself.
  public func giveUp(_ evaluation: Evaluation, keeping owner: AnyObject) -> Bool {
    withLock {
      guard evaluation.completion != nil, let group = evaluation.group,
        let places = lost.giveUp(evaluation, keeping: owner, &threads)
      else { return false }
      // Where no thread can be had, one fewer computes.
      for _ in 0..<places { _ = startThread() }
      queue.remove(evaluation, group)
      _ = forget(evaluation)
      // Who waits for one that is retiring waits no longer.
      pthread_cond_broadcast(wake)
      return true
    }
  }

  /// Exchanges every thread for a fresh one, and waits until those before have ended: what a
  /// library has left in them for their end, they have then done. Returns false where one is not
  /// back from a callback, and may never be. Takes as long as what the threads are doing: not for a
  /// loop's thread, nor for one of these.
  public func renewThreads() -> Bool {
    renewal.withLock { _ in
      let (ended, isAnyInside) = withLock {
        // One that cannot be replaced goes on.
        let retiring = (isStopping ? [] : threads).filter { _ in startThread() }
        for worker in retiring { worker.isRetiring = true }
        pthread_cond_broadcast(wake)
        while !LostThreads.areOver(retiring) { pthread_cond_wait(wake, lock) }
        return lost.takeEnded(retiring)
      }
      for worker in ended { pthread_join(worker.thread, nil) }
      return !isAnyInside
    }
  }
}

extension SmallMemory {
  /// Every worker has so much scratch memory, bytes.
  static let scratchBytes = 1 << 16
}
