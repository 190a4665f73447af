import CLinux
import Glibc

/// One line a call, for administrators who ask for it. Loops leave a record, a few tens of
/// nanoseconds; a thread of its own makes lines of records and writes them, so that a log that is
/// read slowly delays no call: what finds no room is counted and left out. Any thread.
///
/// `@unchecked Sendable`: everything mutable is touched with `lock` held only; outside of it the
/// log's own thread alone reads `batch`.
final class AccessLog: @unchecked Sendable {
  /// Records that wait for the writer, at most: some 2 MB.
  private static let recordsMax = 16_384
  /// Lines are written so many at once, and so long after the first: the writer does not wake a
  /// call.
  private static let pauseMicroseconds: UInt32 = 20_000
  private static let linesMax = 1024
  private static let niceness: Int32 = 5

  private let recordsMax: Int
  private let write: @Sendable ([String]) -> Void
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var records: [AccessRecord] = []
  /// The writer's; exchanged with `records`, so that neither is grown anew each time.
  private var batch: [AccessRecord] = []
  private var dropped = 0
  private var isClosing = false
  private var thread: pthread_t?

  /// `write` gets the lines; it is called in the log's own thread and may block.
  init(recordsMax: Int = AccessLog.recordsMax, write: @escaping @Sendable ([String]) -> Void) {
    self.recordsMax = recordsMax
    self.write = write
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
    var thread = pthread_t()
    // Retained for the thread's life; the thread's body takes it over.
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

  /// Leaves a record to be written. Never waits for the writing.
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

  /// Writes what is there, and ends. Once, from no loop that still serves.
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
      for begin in stride(from: 0, to: batch.count, by: AccessLog.linesMax) {
        write(batch[begin..<min(begin + AccessLog.linesMax, batch.count)].map(\.text))
      }
      if left > 0 { write(["access log: \(left) calls left out, lines were written too slowly"]) }
      batch.removeAll(keepingCapacity: true)
      if isLast { return }
      usleep(AccessLog.pauseMicroseconds)
    }
  }

  /// Waits for records, which are the batch then; how many found no room; whether the log ends.
  private func take() -> (left: Int, isLast: Bool) {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while records.isEmpty && !isClosing { pthread_cond_wait(wake, lock) }
    swap(&records, &batch)
    defer { dropped = 0 }
    return (dropped, isClosing)
  }
}
