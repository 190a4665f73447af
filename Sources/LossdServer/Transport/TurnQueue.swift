import LossdEngine

/// The connections of a loop that have something to do. Users take turns, and within one user the
/// user's connections, so that nobody gets more of a loop by opening more connections. Confined to
/// its loop's thread.
final class TurnQueue {
  /// The time for turns before the loop looks for new events, nanoseconds.
  private static let serveTime: UInt64 = 4_000_000

  private var first: UserShare?
  private unowned(unsafe) var last: UserShare?

  var isEmpty: Bool { first == nil }

  /// Puts a connection at the end of its user's line. The caller makes sure, by
  /// `Connection.isQueued`, that the connection stands there once.
  func append(_ connection: Connection) {
    let share = connection.share
    let isFirst = share.firstReady == nil
    connection.nextReady = nil
    if let last = share.lastReady {
      last.nextReady = connection
    } else {
      share.firstReady = connection
    }
    share.lastReady = connection
    if isFirst { append(share) }
  }

  private func append(_ share: UserShare) {
    share.nextShare = nil
    if let last { last.nextShare = share } else { first = share }
    last = share
  }

  /// Gives connections their turns until no connection is left or the time is over.
  func serve() {
    if first == nil { return }
    var end: UInt64 = 0
    while let share = first, let connection = share.firstReady {
      // `last` does not keep its object alive, so it is cleared when the line becomes empty.
      first = share.nextShare
      if first == nil { last = nil }
      share.nextShare = nil
      share.firstReady = connection.nextReady
      connection.nextReady = nil
      if share.firstReady == nil { share.lastReady = nil } else { append(share) }
      connection.turn()
      if first == nil { return }
      let now = Clock.now
      if end == 0 { end = now + TurnQueue.serveTime } else if now >= end { return }
    }
  }
}
