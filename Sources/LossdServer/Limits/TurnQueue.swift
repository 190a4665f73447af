import LossdEngine

/// Whoever takes turns on a loop for a user: a channel. Confined to its loop's thread.
class TurnTaker {
  /// What its user has on this loop.
  let share: UserShare
  /// Stands in the line of its user: see `TurnQueue`.
  final var isQueued = false
  /// The next one in that line.
  fileprivate final var nextReady: TurnTaker?

  init(_ share: UserShare) { self.share = share }

  /// Does what there is to do, for a bounded time. The caller keeps the taker alive.
  func turn() { preconditionFailure("a channel's") }
}

/// The channels of a loop that have something to do. Users take turns, and within one user the
/// user's channels, so that nobody gets more of a loop by opening more connections. Confined to
/// its loop's thread.
final class TurnQueue {
  /// The time for turns before the loop looks for new events, nanoseconds.
  private static let serveTime: UInt64 = 4_000_000

  private var first: UserShare?
  private unowned(unsafe) var last: UserShare?

  var isEmpty: Bool { first == nil }

  /// Puts one at the end of its user's line, unless it stands there already.
  func append(_ taker: TurnTaker) {
    if taker.isQueued { return }
    taker.isQueued = true
    let share = taker.share
    let isFirst = share.firstReady == nil
    taker.nextReady = nil
    if let last = share.lastReady {
      last.nextReady = taker
    } else {
      share.firstReady = taker
    }
    share.lastReady = taker
    if isFirst { append(share) }
  }

  private func append(_ share: UserShare) {
    share.nextShare = nil
    if let last { last.nextShare = share } else { first = share }
    last = share
  }

  /// Gives turns until nobody is left or the time is over.
  func serve() {
    if first == nil { return }
    var end: UInt64 = 0
    while let share = first, let taker = share.firstReady {
      // `last` does not keep its object alive, so it is cleared when the line becomes empty.
      first = share.nextShare
      if first == nil { last = nil }
      share.nextShare = nil
      share.firstReady = taker.nextReady
      taker.nextReady = nil
      if share.firstReady == nil { share.lastReady = nil } else { append(share) }
      taker.isQueued = false
      taker.turn()
      if first == nil { return }
      let now = Clock.now
      if end == 0 { end = now + TurnQueue.serveTime } else if now >= end { return }
    }
  }
}
