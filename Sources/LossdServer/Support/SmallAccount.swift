/// The small things that one connection makes the daemon hold: open calls, decoded messages,
/// messages that are not whole yet, queued answers. They count against the connection's limit,
/// beside its bytes in flight, and on its user's share of the loop. Confined to the loop's thread.
final class SmallAccount {
  let share: UserShare
  private let account: MemoryBudget
  private(set) var used = 0

  init(_ share: UserShare, _ account: MemoryBudget) {
    self.share = share
    self.account = account
  }

  /// Charges `bytes`; or returns where there is no room, and then nothing is charged.
  @inline(__always)
  func take(_ bytes: Int) -> Shortage? {
    if used + bytes > account.bytesMax - account.bytesInFlight { return Shortage(budget: account) }
    if let shortage = share.take(bytes) { return shortage }
    used += bytes
    return nil
  }

  /// Charges what is held already; false where there is no room, and it is charged all the same.
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
