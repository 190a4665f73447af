import LossdTensor

/// What one user has on one loop: the small things that its connections hold there, and those of
/// its connections that have something to do. Small things are charged to bytes that the share has
/// leased from the user's budget, 1 MiB at a time, so that a small call costs an addition. Confined
/// to the loop's thread.
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

  /// Connections that wait for their turn: see `TurnQueue`.
  var firstReady: Connection?
  unowned(unsafe) var lastReady: Connection?
  var nextShare: UserShare?

  init(_ user: User, _ daemon: DaemonState) {
    self.user = user
    self.daemon = daemon
  }

  /// Charges `bytes`; nil, or where there is no room, and then nothing is charged.
  @inline(__always)
  func take(_ bytes: Int) -> Shortage? {
    used += bytes
    if used <= leased { return nil }
    guard let shortage = lease() else { return nil }
    used -= bytes
    return shortage
  }

  /// Charges what is held already; false where there is no room, and it is charged all the same.
  func force(_ bytes: Int) -> Bool {
    used += bytes
    return used <= leased || lease() == nil
  }

  /// Whether there is room for all that is charged, or could be made.
  var isCovered: Bool { used <= leased || lease() == nil }

  @inline(__always)
  func give(_ bytes: Int) {
    used -= bytes
    if leased - used > 2 * UserShare.leaseBytesMax || used == 0 && connections == 0 { giveBack() }
  }

  private func lease() -> Shortage? {
    let budget = user.bytes
    // Small limits are not used up by leases.
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

  /// Gives the user's budget what is leased beyond what is used and 1 MiB; all of it where nothing
  /// is left.
  func giveBack() {
    let rest = leased - used - (connections == 0 ? 0 : UserShare.leaseBytesMax)
    if rest <= 0 { return }
    leased -= rest
    daemon.leasedBytes.subtract(rest, ordering: .relaxed)
    user.bytes.release(rest)
  }

  /// Whether the small things of the user are a part of its budget that counts.
  var isLarge: Bool { used > user.bytes.bytesMax >> 3 }
}
