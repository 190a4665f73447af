import Synchronization

/// Bytes in flight of the whole daemon, against a limit. Any thread.
final class MemoryBudget: Sendable {
  private let limit: Atomic<Int>
  private let used = Atomic<Int>(0)
  /// Reservations that had to wait since the last release.
  private let isWaitedFor = Atomic<Bool>(false)
  /// Called after a release that somebody waits for, on the releasing thread.
  private let onRelease: Mutex<(@Sendable () -> Void)?> = Mutex(nil)

  init(bytesMax: Int) { limit = Atomic(bytesMax) }

  var bytesMax: Int { limit.load(ordering: .relaxed) }

  /// Another limit from now on; what is over it already stays.
  func setBytesMax(_ bytes: Int) {
    limit.store(bytes, ordering: .relaxed)
    // Those who wait may fit in now.
    onRelease.withLock { $0 }?()
  }

  var bytesInFlight: Int { used.load(ordering: .relaxed) }

  func setOnRelease(_ action: @escaping @Sendable () -> Void) {
    onRelease.withLock { $0 = action }
  }

  /// Whether `bytes` were free; then they are taken.
  func reserve(_ bytes: Int) -> Bool {
    let before = used.add(bytes, ordering: .acquiringAndReleasing).oldValue
    if before + bytes <= bytesMax { return true }
    used.subtract(bytes, ordering: .acquiringAndReleasing)
    return false
  }

  /// To be called before the last try to reserve, so that no release in between is missed.
  func announceWaiting() { isWaitedFor.store(true, ordering: .sequentiallyConsistent) }

  /// Whether some reservation waits for memory.
  var hasWaiting: Bool { isWaitedFor.load(ordering: .relaxed) }

  func release(_ bytes: Int) {
    if bytes == 0 { return }
    used.subtract(bytes, ordering: .sequentiallyConsistent)
    guard isWaitedFor.load(ordering: .sequentiallyConsistent) else { return }
    if isWaitedFor.exchange(false, ordering: .sequentiallyConsistent) {
      onRelease.withLock { $0 }?()
    }
  }
}
