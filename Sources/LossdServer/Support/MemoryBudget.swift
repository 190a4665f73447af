import Synchronization

/// A bound on bytes in flight, within another one: a connection's within its user's within the
/// daemon's. What is reserved is counted in all of them or in none. Any thread.
final class MemoryBudget: Sendable {
  /// The setting that the bound comes from, for texts.
  let setting: String
  /// Whose bytes these are, for texts: `user uid 1000`.
  let owner: String
  let parent: MemoryBudget?
  private let limit: Atomic<Int>
  private let used = Atomic<Int>(0)
  /// Those who wait for bytes of this very budget.
  private let waiting = Atomic<Int>(0)
  /// A release has been told and not yet been taken notice of.
  private let isAnnounced = Atomic<Bool>(false)
  /// Called after a release while somebody waits, on the releasing thread; once until
  /// `takeRelease`.
  private let onRelease: @Sendable (MemoryBudget) -> Void

  init(
    bytesMax: Int, setting: String, owner: String, parent: MemoryBudget? = nil,
    onRelease: @escaping @Sendable (MemoryBudget) -> Void
  ) {
    limit = Atomic(bytesMax)
    self.onRelease = onRelease
    self.setting = setting
    self.owner = owner
    self.parent = parent
  }

  var bytesMax: Int { limit.load(ordering: .relaxed) }
  var bytesInFlight: Int { used.load(ordering: .relaxed) }

  /// Another limit from now on; what is over it already stays.
  func setBytesMax(_ bytes: Int) {
    if limit.exchange(bytes, ordering: .relaxed) == bytes { return }
    // Those who wait may fit in now.
    announceRelease()
  }

  /// Whether so many bytes could be had if nothing else were in flight; else the budget that is too
  /// small.
  func tooSmall(for bytes: Int) -> MemoryBudget? {
    bytes > bytesMax ? self : parent?.tooSmall(for: bytes)
  }

  /// Takes `bytes` here and in every budget above. Returns nil, or the budget in which there is no
  /// room now; then nothing is taken.
  func reserve(_ bytes: Int) -> Shortage? {
    // Before anything is added: the sum of two sizes near the largest number is none.
    if bytes > bytesMax { return Shortage(budget: self) }
    let before = used.wrappingAdd(bytes, ordering: .sequentiallyConsistent).oldValue
    if before > bytesMax - bytes {
      used.wrappingSubtract(bytes, ordering: .sequentiallyConsistent)
      return Shortage(budget: self)
    }
    guard let shortage = parent?.reserve(bytes) else { return nil }
    used.wrappingSubtract(bytes, ordering: .sequentiallyConsistent)
    return shortage
  }

  func release(_ bytes: Int) {
    if bytes == 0 { return }
    used.wrappingSubtract(bytes, ordering: .sequentiallyConsistent)
    announceRelease()
    parent?.release(bytes)
  }

  /// Somebody waits for bytes of this budget from now on. To be called before the last try to
  /// reserve, so that no release in between is missed.
  func beginWaiting() { waiting.add(1, ordering: .sequentiallyConsistent) }
  func endWaiting() { waiting.subtract(1, ordering: .sequentiallyConsistent) }

  /// Whether somebody waits for bytes of this budget or of one above.
  var hasWaiting: Bool {
    waiting.load(ordering: .relaxed) > 0 || parent?.hasWaiting ?? false
  }

  /// The waiters are about to be looked at: the next release is told again.
  func takeRelease() { isAnnounced.store(false, ordering: .sequentiallyConsistent) }

  private func announceRelease() {
    guard waiting.load(ordering: .sequentiallyConsistent) > 0,
      !isAnnounced.exchange(true, ordering: .sequentiallyConsistent)
    else { return }
    onRelease(self)
  }
}

/// A budget that has no room now.
struct Shortage {
  let budget: MemoryBudget

  /// For a refusal: `user uid 1000 has 5 bytes in flight, the limit is 6 (limits.user_bytes)`.
  var text: String {
    "\(budget.owner) has \(budget.bytesInFlight) bytes in flight, the limit is \(budget.bytesMax) "
      + "(\(budget.setting))"
  }
}
