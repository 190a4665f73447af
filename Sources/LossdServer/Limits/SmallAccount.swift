/// The small things that the daemon holds for one connection: open calls, decoded messages,
/// messages that are not whole yet, queued answers. They count against the connection's limit,
/// together with its bytes in flight, and on the user's share of the loop. Confined to the loop's
/// thread.
final class SmallAccount {
  let share: UserShare
  private let account: MemoryBudget
  private(set) var used = 0

  init(_ share: UserShare, _ account: MemoryBudget) {
    self.share = share
    self.account = account
  }

  /// Charges `bytes`, or returns the budget that has no room and charges nothing.
  @inline(__always)
  func take(_ bytes: Int) -> Shortage? {
    if used + bytes > account.bytesMax - account.bytesInFlight { return Shortage(budget: account) }
    if let shortage = share.take(bytes) { return shortage }
    used += bytes
    return nil
  }

  /// Charges bytes that are held already, with or without room. False where there is none.
  func force(_ bytes: Int) -> Bool {
    used += bytes
    return share.force(bytes)
  }

  @inline(__always)
  func give(_ bytes: Int) {
    used -= bytes
    share.give(bytes)
  }
}
