import LossdTensor

/// What one user has on one loop: the bytes of small things that its connections hold there, and
/// the line of its connections that have something to do. The share leases bytes from the user's
/// budget, 1 MiB at a time, and charges small things to the lease, so that a small call costs an
/// addition. Confined to the loop's thread.
final class UserShare {
  private static let leaseBytesMax = 1 << 20

  let user: User
  private let daemon: DaemonState
  /// Connections of the user on this loop.
  var connections = 0
  /// Calls of the user open on this loop.
  var streams = 0
  /// Bytes of small things that are held.
  private(set) var used = 0
  /// Bytes taken from the user's budget for them.
  private(set) var leased = 0

  /// Channels that wait for their turn: see `TurnQueue`.
  var firstReady: TurnTaker?
  unowned(unsafe) var lastReady: TurnTaker?
  var nextShare: UserShare?

  init(_ user: User, _ daemon: DaemonState) {
    self.user = user
    self.daemon = daemon
  }

  /// Charges `bytes` and returns nil, or returns the budget that has no room and charges nothing.
  @inline(__always)
  func take(_ bytes: Int) -> Shortage? {
    used += bytes
    if used <= leased { return nil }
    guard let shortage = lease() else { return nil }
    used -= bytes
    return shortage
  }

  /// Charges bytes that are held already, with or without room. False where there is none.
  func force(_ bytes: Int) -> Bool {
    used += bytes
    return used <= leased || lease() == nil
  }

  /// Whether the lease covers everything that is charged, or can be made to.
  var isCovered: Bool { used <= leased || lease() == nil }

  @inline(__always)
  func give(_ bytes: Int) {
    used -= bytes
    if leased - used > 2 * UserShare.leaseBytesMax || used == 0 && connections == 0 { giveBack() }
  }

  private func lease() -> Shortage? {
    let budget = user.bytes
    // A lease is a small part of a small limit.
    let step = min(UserShare.leaseBytesMax, max(4096, budget.bytesMax >> 6))
    let missing = used - leased
    let wanted = (missing + step - 1) / step * step
    if budget.reserve(wanted) == nil {
      leased += wanted
      daemon.leasedBytes.add(wanted, ordering: .relaxed)
      return nil
    }
    if let shortage = budget.reserve(missing) { return shortage }
    leased += missing
    daemon.leasedBytes.add(missing, ordering: .relaxed)
    return nil
  }

  /// Releases what is leased beyond the used bytes and 1 MiB; the 1 MiB too where the user has no
  /// connection left.
  func giveBack() {
    let rest = leased - used - (connections == 0 ? 0 : UserShare.leaseBytesMax)
    if rest <= 0 { return }
    leased -= rest
    daemon.leasedBytes.subtract(rest, ordering: .relaxed)
    user.bytes.release(rest)
  }

  /// Whether the user's small things take more than an eighth of its budget.
  var isLarge: Bool { used > user.bytes.bytesMax >> 3 }
}
