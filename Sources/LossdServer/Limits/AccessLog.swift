import CLinux
import Glibc

/// The access log: one line for each call. A loop only leaves a record, which takes a few tens of
/// nanoseconds. The log's own thread makes lines of the records and writes them, so a slow reader
/// of the log delays no call. Records that find no room are counted and left out. Any thread.
///
/// `@unchecked Sendable`: everything mutable is touched only with `lock` held, except `taken`,
/// which the log's own thread reads.
final class AccessLog: @unchecked Sendable {
  /// The most records that wait for the writer: some 2 MB.
  private static let recordsMax = 16_384
  /// The writer pauses so long after each round and writes up to `linesMax` lines at once, so that
  /// calls do not wake it one by one.
  private static let pauseMicroseconds: UInt32 = 20_000
  private static let linesMax = 1024
  private static let niceness: Int32 = 5

  private let recordsMax: Int
  private let write: @Sendable ([String]) -> Void
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var records: [AccessRecord] = []
  /// The records that the writer has taken. `take` exchanges the two arrays, so that both keep
  /// their capacity.
  private var taken: [AccessRecord] = []
  private var dropped = 0
  private var isClosing = false
  private var thread: pthread_t?

  /// `write` gets the lines. The log's own thread calls `write`, which may block.
  init(recordsMax: Int = AccessLog.recordsMax, write: @escaping @Sendable ([String]) -> Void) {
    self.recordsMax = recordsMax
    self.write = write
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
    var thread = pthread_t()
    // Retained for the thread's life: the thread's body releases it.
    let me = Unmanaged.passRetained(self).toOpaque()
    let code = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        Unmanaged<AccessLog>.fromOpaque(argument).takeRetainedValue().work()
        return nil
      }, me)
    precondition(code == 0, "cannot start a thread")
    self.thread = thread
  }

  deinit {
    pthread_mutex_destroy(lock)
    pthread_cond_destroy(wake)
    lock.deallocate()
    wake.deallocate()
  }

  /// Leaves a record for the writer. Never waits for a write.
  func add(_ record: AccessRecord) {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    if records.count >= recordsMax {
      dropped += 1
      return
    }
    records.append(record)
    if records.count == 1 { pthread_cond_signal(wake) }
  }

  /// Writes all records that are left and ends the thread. Call it once, and not on a loop that
  /// still serves.
  func close() {
    pthread_mutex_lock(lock)
    isClosing = true
    pthread_cond_signal(wake)
    pthread_mutex_unlock(lock)
    if let thread { pthread_join(thread, nil) }
  }

  private func work() {
    clinux_name_thread("lossd-access")
    clinux_lower_priority(AccessLog.niceness)
    while true {
      let (left, isLast) = take()
      for begin in stride(from: 0, to: taken.count, by: AccessLog.linesMax) {
        write(taken[begin..<min(begin + AccessLog.linesMax, taken.count)].map(\.text))
      }
      if left > 0 { write(["access log: \(left) calls left out, lines were written too slowly"]) }
      taken.removeAll(keepingCapacity: true)
      if isLast { return }
      usleep(AccessLog.pauseMicroseconds)
    }
  }

  /// Waits for records and takes them. Returns how many records found no room, and
  /// whether the log ends.
  private func take() -> (left: Int, isLast: Bool) {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while records.isEmpty && !isClosing { pthread_cond_wait(wake, lock) }
    swap(&records, &taken)
    defer { dropped = 0 }
    return (dropped, isClosing)
  }
}
