import CLinux
import Glibc
import LossdPluginHost
import LossdTensor

/// Frees big memory on its own thread. The pages of a gigabyte take a tenth of a second to free,
/// and neither a loop nor a worker has that time. Any thread.
///
/// `@unchecked Sendable`: everything mutable is touched only with `lock` held.
final class Reaper: @unchecked Sendable {
  /// Smaller memory, bytes, is freed where it is dropped.
  static let bytesMin = 1 << 20
  /// So much is freed in one system call.
  private static let pieceBytes = 1 << 20

  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let wake: UnsafeMutablePointer<pthread_cond_t>
  private var work: [@Sendable () -> Void] = []

  /// Starts the thread, which runs for the daemon's whole life.
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

  /// Runs `action` soon on the reaper's thread, where everything that it has captured is released
  /// too.
  func later(_ action: @escaping @Sendable () -> Void) {
    pthread_mutex_lock(lock)
    work.append(action)
    if work.count == 1 { pthread_cond_signal(wake) }
    pthread_mutex_unlock(lock)
  }

  /// Frees `memory`, and then releases the bytes that it was charged with.
  func free(_ memory: AlignedBuffer, _ bytes: Int, of account: MemoryBudget) {
    let last = Last(memory)
    later {
      last.free()
      account.release(bytes)
    }
  }

  /// Frees a segment, and then releases the bytes that it was charged with.
  func free(_ segment: consuming SharedSegment, _ bytes: Int, of account: MemoryBudget) {
    let last = Last(consume segment)
    later {
      last.free()
      account.release(bytes)
    }
  }

  /// Frees segments that are charged to nobody.
  func free(_ segments: [SharedSegment]) {
    for segment in segments {
      let last = Last(segment)
      later { last.free() }
    }
  }

  /// Releases objects that nobody else refers to, such as the jobs of a connection that has ended.
  func drop<Object: AnyObject>(_ objects: [Object]) {
    let last = LoopBound(objects)
    later { withExtendedLifetime(last) {} }
  }

  /// Frees the pages a mebibyte at a time. Unmapping all of them at once would block every other
  /// thread that changes the process's mappings, such as a loop whose heap grows.
  private static func freePages(_ memory: AlignedBuffer) {
    let page = Int(getpagesize())
    var place = (Int(bitPattern: memory.base) + page - 1) / page * page
    let end = (Int(bitPattern: memory.base) + memory.capacity) / page * page
    while place < end {
      let count = min(Reaper.pieceBytes, end - place)
      madvise(UnsafeMutableRawPointer(bitPattern: place), count, MADV_DONTNEED)
      place += count
    }
  }

  /// The last reference to some memory. `@unchecked Sendable`: one thread at a time uses it.
  private final class Last: @unchecked Sendable {
    private var memory: AlignedBuffer?
    private var segment: SharedSegment?

    init(_ memory: AlignedBuffer) { self.memory = memory }
    init(_ segment: consuming SharedSegment) { self.segment = consume segment }

    func free() {
      memory.map(Reaper.freePages)
      memory = nil
      segment?.freePages(pieceBytes: Reaper.pieceBytes)
      segment = nil
    }
  }

  private func run() {
    pthread_mutex_lock(lock)
    while true {
      while work.isEmpty { pthread_cond_wait(wake, lock) }
      var actions: [@Sendable () -> Void] = []
      swap(&actions, &work)
      pthread_mutex_unlock(lock)
      // One after another, so that each memory is free before the next one is begun.
      while let action = actions.popLast() { action() }
      pthread_mutex_lock(lock)
    }
  }

  /// The daemon's reaper.
  static let shared = Reaper()
}
