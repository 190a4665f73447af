import Glibc

/// A counting semaphore (sem_init(3)). Any thread.
///
/// `@unchecked Sendable`: the kernel's to share.
public final class Semaphore: @unchecked Sendable {
  private let raw: UnsafeMutablePointer<sem_t>

  public init() {
    raw = .allocate(capacity: 1)
    sem_init(raw, 0, 0)
  }

  deinit {
    sem_destroy(raw)
    raw.deallocate()
  }

  public func signal() { sem_post(raw) }

  public func wait() { while sem_wait(raw) != 0 {} }

  /// Whether it was signalled within so many nanoseconds.
  public func wait(nanoseconds: UInt64) -> Bool {
    var end = timespec()
    clock_gettime(CLOCK_REALTIME, &end)
    let total = UInt64(end.tv_nsec) + nanoseconds
    end.tv_sec += Int(total / 1_000_000_000)
    end.tv_nsec = Int(total % 1_000_000_000)
    while sem_timedwait(raw, &end) != 0 { if errno == ETIMEDOUT { return false } }
    return true
  }

  /// Whether it was signalled; does not wait.
  public func tryWait() -> Bool { sem_trywait(raw) == 0 }
}
