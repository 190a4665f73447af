import Glibc

/// What a benchmark does: how many calls at once, for how long, and when they begin.
struct BenchPlan: Sendable {
  var connections: Int
  var threads: Int
  /// Calls under way at once on a connection, at most.
  var depth: Int
  /// Calls a second on all connections, begun whether or not others have been answered; 0: a call
  /// begins when another has been answered.
  var rate: Double
  /// Nanoseconds.
  var warmUp: UInt64
  var duration: UInt64
}

/// One thread of a benchmark and its connections. Confined to it.
final class BenchRun {
  /// How long answers are waited for at the end, nanoseconds.
  private static let lastTime: UInt64 = 10_000_000_000
  /// How long a daemon that has gone may take to come back, nanoseconds.
  static let patience: UInt64 = 5_000_000_000
  /// Before a call is due it is waited for awake, nanoseconds: poll(2) counts in milliseconds.
  private static let awakeTime: UInt64 = 2_000_000

  private let connections: [BenchConnection]
  private var descriptors: [pollfd]
  private let start: UInt64
  private let countsFrom: UInt64
  private let end: UInt64

  /// `start` is the same for all threads.
  init(_ connections: [BenchConnection], _ plan: BenchPlan, start: UInt64) {
    self.connections = connections
    self.start = start
    countsFrom = start + plan.warmUp
    end = countsFrom + plan.duration
    descriptors = connections.map {
      pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0)
    }
    for connection in connections {
      connection.countsFrom = countsFrom
      connection.countsUntil = end
    }
  }

  // MARK: - A call begins when another has been answered

  /// Whether the daemon was there to the end.
  func runClosed() throws -> Bool {
    while monotonicNanoseconds() < start { sched_yield() }
    for connection in connections { try refill(connection, monotonicNanoseconds()) }
    if connections.count == 1 {
      try runOne(connections[0])
    } else {
      while monotonicNanoseconds() < end && !hasGone {
        for connection in try ready(within: connections.contains { $0.lostAt != nil } ? 10 : 100) {
          try connection.read(waits: false)
        }
        let now = monotonicNanoseconds()
        if now < end { for connection in connections { try refill(connection, now) } }
      }
    }
    return try drain()
  }

  /// Without poll, which would cost more than the call.
  private func runOne(_ connection: BenchConnection) throws {
    while true {
      if connection.lostAt != nil {
        connection.connectAgain()
        if connection.descriptor < 0 { usleep(5000) }
      }
      if connection.wantsToWrite {
        for connection in try ready(within: 100) { try connection.read(waits: false) }
      } else {
        try connection.read(waits: true)
      }
      let now = monotonicNanoseconds()
      if now >= end || hasGone { return }
      try refill(connection, now)
    }
  }

  /// As many calls under way as are to be.
  private func refill(_ connection: BenchConnection, _ now: UInt64) throws {
    while connection.takesCalls { try connection.begin(at: connection.takeAgain() ?? now) }
    connection.flush()
  }

  /// Whether the daemon has gone and is not expected back.
  private var hasGone: Bool {
    guard let lost = connections.compactMap(\.lostAt).min() else { return false }
    return monotonicNanoseconds() - lost > BenchRun.patience
  }

  // MARK: - Calls begin at a rate

  /// `interval` in nanoseconds, `offset` of the first call from the start. Whether the daemon was
  /// there to the end.
  func runOpen(interval: Double, offset: Double) throws -> Bool {
    var index = 0
    var next = 0
    func due() -> UInt64 { start + UInt64(offset + Double(index) * interval) }
    while true {
      let now = monotonicNanoseconds()
      if due() >= end && connections.allSatisfy({ $0.open == 0 && !$0.hasAgain }) { return true }
      if now >= end + BenchRun.lastTime || hasGone { break }
      for connection in connections {
        while connection.takesCalls, let time = connection.takeAgain() {
          try connection.begin(at: time)
        }
      }
      // What finds no room waits, and that counts: from when it was due.
      while due() <= now && due() < end, let connection = withRoom(&next) {
        try connection.begin(at: due())
        index += 1
      }
      for connection in connections where connection.wantsToWrite { connection.flush() }
      let wait = due() < end && due() > now ? due() - now : due() < end ? 0 : 100_000_000
      let milliseconds =
        wait > BenchRun.awakeTime ? Int32((wait - BenchRun.awakeTime) / 1_000_000) : 0
      let isAway = connections.contains { $0.lostAt != nil }
      for connection in try ready(within: isAway ? max(milliseconds, 5) : milliseconds) {
        try connection.read(waits: false)
      }
    }
    let now = monotonicNanoseconds()
    for connection in connections { connection.giveUp(at: now) }
    // What was due and found no connection; what would still have been due is nobody's.
    while due() < min(end, now) {
      if due() >= countsFrom {
        connections[0].tally.unanswered += 1
        connections[0].tally.latencies.add(now - due())
      }
      index += 1
    }
    return !connections.contains { $0.lostAt != nil }
  }

  /// The next connection in turn that may take a call.
  private func withRoom(_ next: inout Int) -> BenchConnection? {
    for _ in 0..<connections.count {
      let connection = connections[next]
      next = (next + 1) % connections.count
      if connection.takesCalls { return connection }
    }
    return nil
  }

  // MARK: - Both

  /// What may be read, after what may be written has been.
  private func ready(within milliseconds: Int32) throws -> [BenchConnection] {
    for index in connections.indices {
      if connections[index].lostAt != nil { connections[index].connectAgain() }
      // poll leaves -1 alone.
      descriptors[index].fd = connections[index].descriptor
      descriptors[index].revents = 0
      descriptors[index].events = Int16(
        connections[index].wantsToWrite ? POLLIN | POLLOUT : POLLIN)
    }
    if poll(&descriptors, nfds_t(descriptors.count), milliseconds) < 0 {
      if errno == EINTR { return [] }
      throw Complaint("poll: \(String(cString: strerror(errno)))")
    }
    var readable: [BenchConnection] = []
    for index in connections.indices where descriptors[index].revents != 0 {
      if descriptors[index].revents & Int16(POLLOUT) != 0 { connections[index].flush() }
      if descriptors[index].revents & ~Int16(POLLOUT) != 0 { readable.append(connections[index]) }
    }
    return readable
  }

  /// Waits for the last answers. Whether the daemon was there to the end.
  private func drain() throws -> Bool {
    let limit = monotonicNanoseconds() + BenchRun.lastTime
    while connections.contains(where: { $0.open > 0 || $0.wantsToWrite || $0.hasAgain })
      && !hasGone
    {
      for connection in try ready(within: connections.contains { $0.lostAt != nil } ? 10 : 100) {
        try connection.read(waits: false)
      }
      for connection in connections {
        while connection.takesCalls, let time = connection.takeAgain() {
          try connection.begin(at: time)
        }
        connection.flush()
      }
      if monotonicNanoseconds() > limit { break }
    }
    let now = monotonicNanoseconds()
    for connection in connections { connection.giveUp(at: now) }
    return !connections.contains { $0.lostAt != nil }
  }
}
