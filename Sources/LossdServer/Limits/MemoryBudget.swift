import Synchronization

/// A bound on bytes in flight. Budgets nest: a connection's lies in its user's, which lies in the
/// daemon's. Reserved bytes are counted in all of them or in none. Any thread.
final class MemoryBudget: Sendable {
  /// The setting that the bound comes from, for refusals.
  let setting: String
  /// Whose bytes these are, for refusals: `user uid 1000`.
  let owner: String
  let parent: MemoryBudget?
  private let limit: Atomic<Int>
  private let used = Atomic<Int>(0)
  /// How many wait for bytes of this budget itself.
  private let waiting = Atomic<Int>(0)
  /// `onRelease` has been called, and `takeRelease` has not been called since.
  private let isAnnounced = Atomic<Bool>(false)
  /// Called on the releasing thread after a release while somebody waits; not again until
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

  /// Changes the limit. Bytes that are reserved stay reserved, even over the new limit.
  func setBytesMax(_ bytes: Int) {
    if limit.exchange(bytes, ordering: .relaxed) == bytes { return }
    // Waiters may fit in now.
    announceRelease()
  }

  /// The budget that could not hold so many bytes even if nothing else were in flight; nil: all
  /// could.
  func tooSmall(for bytes: Int) -> MemoryBudget? {
    bytes > bytesMax ? self : parent?.tooSmall(for: bytes)
  }

  /// Takes `bytes` in this budget and in every one above. Returns nil, or the budget that has no
  /// room now, and then takes nothing.
  func reserve(_ bytes: Int) -> Shortage? {
    // Checked before adding: the sum of two sizes near the largest number overflows.
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

  /// Somebody waits for bytes of this budget from now on. Call it before the last try to reserve,
  /// so that no release in between is missed.
  func beginWaiting() { waiting.add(1, ordering: .sequentiallyConsistent) }
  func endWaiting() { waiting.subtract(1, ordering: .sequentiallyConsistent) }

  /// Whether somebody waits for bytes of this budget or of one above.
  var hasWaiting: Bool {
    waiting.load(ordering: .relaxed) > 0 || parent?.hasWaiting ?? false
  }

  /// The caller is about to wake waiters: from now on the next release calls `onRelease` again.
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
