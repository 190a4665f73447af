import Glibc

/// One worker's thread and what it is doing.
///
/// `@unchecked Sendable`: everything in it belongs to the lock of its `WorkerThreads`.
final class WorkerThread: @unchecked Sendable {
  var thread = pthread_t()
  /// The call that the thread is computing or calling back for, and since when: `Clock`'s time.
  var call: Evaluation?
  var since: UInt64 = 0
  /// It ends after what it is doing. Another thread has its place, and somebody waits for its end.
  var isRetiring = false
  /// Its callback did not return in time: another thread has its place, and nobody waits for it.
  fileprivate(set) var isLost = false
  /// It is about to end.
  var isBack = false
  /// Of its chunks, one after the other.
  let sums = ChunkSums.allocate()

  deinit { sums.deallocate() }

  /// Whether another thread has its place.
  var isReplaced: Bool { isRetiring || isLost }
}

/// Threads that a callback holds beyond its time: which they are, what has to live as long as they
/// may touch it, and which of them are back.
///
/// It starts and waits for no thread. Everything belongs to the lock of its `WorkerThreads`.
struct LostThreads {
  private struct Kept {
    var owner: AnyObject
    /// Threads inside of the call.
    var count: Int
  }

  private var threads: [WorkerThread] = []
  /// By the call, which a thread inside of it keeps.
  private var kept: [ObjectIdentifier: Kept] = [:]

  /// Since when a thread of `workers` has been inside of the call, the longest where there are
  /// several; nil: none is.
  static func insideSince(_ call: Evaluation, _ workers: [WorkerThread]) -> UInt64? {
    workers.filter { $0.call === call }.map(\.since).min()
  }

  /// Takes the threads inside of the call out of `workers`, and keeps `owner`, which owns the
  /// call's memory, until the last of them is back. Returns how many places nobody has now; nil,
  /// and nothing has changed, where no thread is inside.
  mutating func giveUp(
    _ call: Evaluation, keeping owner: AnyObject, _ workers: inout [WorkerThread]
  ) -> Int? {
    let stuck = workers.filter { $0.call === call }
    if stuck.isEmpty { return nil }
    workers.removeAll { $0.call === call }
    for worker in stuck { worker.isLost = true }
    threads += stuck
    kept[ObjectIdentifier(call)] = Kept(owner: owner, count: stuck.count)
    // The place of one that retires has been given away already.
    return stuck.count { !$0.isRetiring }
  }

  /// A lost thread has come out of the call. Returns what was kept for the call once no other is
  /// inside: to be let go of without the lock, since that may take its time.
  mutating func cameBack(from call: Evaluation) -> AnyObject? {
    let key = ObjectIdentifier(call)
    guard let count = kept[key]?.count else { return nil }
    if count == 1 { return kept.removeValue(forKey: key)?.owner }
    kept[key]?.count = count - 1
    return nil
  }

  /// Whether each of the threads that retire has ended or is lost.
  static func areOver(_ retiring: [WorkerThread]) -> Bool {
    retiring.allSatisfy { $0.isBack || $0.isLost }
  }

  /// The threads that have ended, of those that were retiring and of those that were lost before:
  /// to be joined. `isAnyInside`: a lost one is not back.
  mutating func takeEnded(_ retiring: [WorkerThread]) -> (ended: [WorkerThread], isAnyInside: Bool)
  {
    let ended = retiring.filter { $0.isBack && !$0.isLost } + threads.filter(\.isBack)
    threads.removeAll(where: \.isBack)
    return (ended, !threads.isEmpty)
  }
}
