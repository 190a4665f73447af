import CLinux
import Glibc
import LossdTensor

/// Frees big memory on a thread of its own: giving back the pages of a gigabyte takes a tenth of a
/// second, which neither a loop nor a worker has. Any thread.
///
/// `@unchecked Sendable`: everything mutable is touched with `lock` held only.
final class Reaper: @unchecked Sendable {
  /// Memory from this size on, bytes, is worth the way to another thread.
  static let bytesMin = 1 << 20

  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var work: [@Sendable () -> Void] = []

  /// For the daemon's whole life.
  init() {
    lock = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(wake, nil)
    var thread = pthread_t()
    // Retained for the thread, which never ends.
    let code = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        clinux_name_thread("lossd-reaper")
        Unmanaged<Reaper>.fromOpaque(argument).takeUnretainedValue().run()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
    precondition(code == 0, "cannot start a thread")
    pthread_detach(thread)
  }

  /// Does something on the reaper's thread soon: what the action has captured is let go of there.
  func later(_ action: @escaping @Sendable () -> Void) {
    pthread_mutex_lock(lock)
    work.append(action)
    if work.count == 1 { pthread_cond_signal(wake) }
    pthread_mutex_unlock(lock)
  }

  /// Lets go of `memory`, and then of the bytes that it was charged with.
  func free(_ memory: AlignedBuffer, _ bytes: Int, of account: MemoryBudget) {
    let last = Last(memory)
    later {
      last.memory.map(Reaper.freePages)
      last.memory = nil
      account.release(bytes)
    }
  }

  /// Lets go of objects that nobody else refers to any more, such as the jobs of a connection that
  /// has ended.
  func drop<Object: AnyObject>(_ objects: [Object]) {
    let last = LoopBound(objects)
    later { withExtendedLifetime(last) {} }
  }

  /// Gives the pages back a few at a time: whoever unmaps all of them at once keeps every other
  /// thread from changing the process's mappings for as long, a loop whose heap grows among them.
  private static func freePages(_ memory: AlignedBuffer) {
    let page = Int(getpagesize())
    let pieceBytes = 1 << 20
    var place = (Int(bitPattern: memory.base) + page - 1) / page * page
    let end = (Int(bitPattern: memory.base) + memory.capacity) / page * page
    while place < end {
      let count = min(pieceBytes, end - place)
      madvise(UnsafeMutableRawPointer(bitPattern: place), count, MADV_DONTNEED)
      place += count
    }
  }

  /// The last reference to some memory. `@unchecked Sendable`: handed on, not used by two threads
  /// at a time.
  private final class Last: @unchecked Sendable {
    var memory: AlignedBuffer?
    init(_ memory: AlignedBuffer) { self.memory = memory }
  }

  private func run() {
    pthread_mutex_lock(lock)
    while true {
      while work.isEmpty { pthread_cond_wait(wake, lock) }
      var actions: [@Sendable () -> Void] = []
      swap(&actions, &work)
      pthread_mutex_unlock(lock)
      // One after the other, so that each one's memory is free before the next one's is begun with.
      while let action = actions.popLast() { action() }
      pthread_mutex_lock(lock)
    }
  }

  /// The daemon's.
  static let shared = Reaper()
}
