import CLinux
import Glibc
import LossdEngine

/// Frees the pages of regions that nobody uses any more, on a thread of its own, since that takes
/// some 0.2 ms a MiB: user by user, a piece at a time. Only then is a region counted no longer:
/// what a client keeps of it (its descriptor, its mapping) has no page of the daemon's any more.
/// Any thread.
///
/// `@unchecked Sendable`: everything mutable is touched with `lock` held only.
final class RegionKeeper: @unchecked Sendable {
  /// Freed at a time, bytes: some 3 ms.
  private static let pieceBytes = 16 << 20
  /// As the workers: a loop that wakes gets a core at once.
  private static let niceness: Int32 = 5

  /// A mapping to be freed.
  struct Item {
    var memory: UnsafeMutableRawPointer
    var bytes: Int
    var owner: UserID
    /// Not before, `Clock.now`'s nanoseconds.
    var due: UInt64
    /// Its client may go on with what lies there: the daemon is about to end, and its memory is
    /// counted no longer.
    var keepsPages: Bool
    /// Called on the keeper's thread once all is done.
    var done: () -> Void
    fileprivate var freed = 0

    init(
      _ memory: UnsafeMutableRawPointer, _ bytes: Int, _ owner: UserID, due: UInt64,
      keepsPages: Bool, done: @escaping () -> Void
    ) {
      self.memory = memory
      self.bytes = bytes
      self.owner = owner
      self.due = due
      self.keepsPages = keepsPages
      self.done = done
    }
  }

  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var ready: [UserID: [Item]] = [:]
  private var turn: [UserID] = []
  private var later: [Item] = []
  private var thread: pthread_t?
  private var isStopping = false

  init() {
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_mutex_destroy(lock)
    pthread_cond_destroy(wake)
    lock.deallocate()
    wake.deallocate()
  }

  func free(_ item: Item) {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    if isStopping { return }  // The process ends: so does the mapping.
    if item.due > Clock.now { later.append(item) } else { enqueue(item) }
    startThread()
    pthread_cond_signal(wake)
  }

  private func enqueue(_ item: Item) {
    if ready[item.owner]?.isEmpty ?? true { turn.append(item.owner) }
    ready[item.owner, default: []].append(item)
  }

  private func startThread() {
    if thread != nil { return }
    var made = pthread_t()
    // Retained for the thread's life; `stop` waits for its end.
    let me = Unmanaged.passRetained(self)
    let code = pthread_create(
      &made, nil,
      { argument in
        guard let argument else { return nil }
        clinux_name_thread("lossd-regions")
        clinux_lower_priority(RegionKeeper.niceness)
        Unmanaged<RegionKeeper>.fromOpaque(argument).takeRetainedValue().work()
        return nil
      }, me.toOpaque())
    // Without a thread the next one that comes tries again; until then nothing is freed, and all
    // stays counted.
    if code == 0 { thread = made } else { me.release() }
  }

  /// Ends the thread after the piece that it is at. What is left goes with the process.
  func stop() {
    pthread_mutex_lock(lock)
    isStopping = true
    pthread_cond_signal(wake)
    let thread = self.thread
    self.thread = nil
    pthread_mutex_unlock(lock)
    if let thread { pthread_join(thread, nil) }
  }

  private func work() {
    pthread_mutex_lock(lock)
    while !isStopping {
      let next = wakeLater()
      guard var item = takeNext() else {
        wait(until: next)
        continue
      }
      pthread_mutex_unlock(lock)
      let isDone = freePiece(&item)
      if isDone { item.done() }
      pthread_mutex_lock(lock)
      if !isDone { enqueue(item) }
    }
    pthread_mutex_unlock(lock)
  }

  /// Moves what is due; when the next will be, or nil.
  private func wakeLater() -> UInt64? {
    if later.isEmpty { return nil }
    let now = Clock.now
    for item in later where item.due <= now { enqueue(item) }
    later.removeAll { $0.due <= now }
    return later.map(\.due).min()
  }

  private func takeNext() -> Item? {
    guard let owner = turn.first else { return nil }
    turn.removeFirst()
    let item = ready[owner]?.removeFirst()
    if ready[owner]?.isEmpty ?? true { ready[owner] = nil } else { turn.append(owner) }
    return item
  }

  private func wait(until time: UInt64?) {
    guard let time else {
      pthread_cond_wait(wake, lock)
      return
    }
    var until = timespec(
      tv_sec: Int(time / 1_000_000_000), tv_nsec: Int(time % 1_000_000_000))
    pthread_cond_timedwait(wake, lock, &until)
  }

  /// From its beginning to its end: a client can see by its first page whether anything has been
  /// freed.
  private func freePiece(_ item: inout Item) -> Bool {
    if !item.keepsPages && item.freed < item.bytes {
      let piece = min(RegionKeeper.pieceBytes, item.bytes - item.freed)
      _ = clinux_free_pages(item.memory + item.freed, piece)
      item.freed += piece
      if item.freed < item.bytes { return false }
    }
    munmap(item.memory, item.bytes)
    return true
  }
}
