import CLinux
import Glibc
import LossdEngine

/// Frees the pages of regions that nobody uses any more. That takes some 0.2 ms a MiB, so the
/// keeper has its own thread and frees a piece at a time, user by user. A region stops counting
/// only when its pages are free: a client may keep the descriptor and the mapping, but they hold no
/// page. Any thread.
///
/// `@unchecked Sendable`: everything mutable is touched only with `lock` held.
final class RegionKeeper: @unchecked Sendable {
  /// Bytes that are freed at a time: some 3 ms.
  private static let pieceBytes = 16 << 20
  /// The workers' niceness: a loop that wakes gets a core at once.
  private static let niceness: Int32 = 5

  /// A mapping to be freed.
  struct Item {
    var memory: UnsafeMutableRawPointer
    var bytes: Int
    var owner: UserID
    /// The earliest time to free it, `Clock.now`'s nanoseconds.
    var due: UInt64
    /// The pages stay: the daemon is about to end and counts nothing any more, and the client may
    /// go on with what lies there.
    var keepsPages: Bool
    /// Called on the keeper's thread when the mapping is gone.
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
    // Retained for the thread's life. `stop` waits for the thread's end.
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
    // Where no thread can be started, the next item tries again. Until then nothing is freed and
    // everything stays counted.
    if code == 0 { thread = made } else { me.release() }
  }

  /// Ends the thread after its current piece. The process's end frees the rest.
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

  /// Moves items that are due to their users' lines. Returns the time when the next will be due, or
  /// nil.
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

  /// Frees from the first page to the last: a client sees by the first page whether anything has
  /// been freed.
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
