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
  /// Before a call is due it is waited for awake, nanoseconds: poll(2) counts in milliseconds.
  private static let awakeTime: UInt64 = 2_000_000

  private let connections: [BenchConnection]
  private let depth: Int
  private var descriptors: [pollfd]
  private let start: UInt64
  private let countsFrom: UInt64
  private let end: UInt64

  /// `start` is the same for all threads.
  init(_ connections: [BenchConnection], _ plan: BenchPlan, start: UInt64) {
    self.connections = connections
    self.start = start
    depth = plan.depth
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

  func runClosed() throws {
    while monotonicNanoseconds() < start { sched_yield() }
    for connection in connections {
      let now = monotonicNanoseconds()
      for _ in 0..<depth { try connection.begin(at: now) }
      try connection.flush()
    }
    if connections.count == 1 {
      try runOne(connections[0])
    } else {
      while monotonicNanoseconds() < end {
        for connection in try ready(within: 100) { try turn(connection) }
      }
    }
    try drain()
  }

  /// Without poll, which would cost more than the call.
  private func runOne(_ connection: BenchConnection) throws {
    while true {
      if connection.wantsToWrite {
        for connection in try ready(within: 100) { try turn(connection) }
      } else {
        try connection.read(waits: true)
      }
      let now = monotonicNanoseconds()
      if now >= end { return }
      try refill(connection, now)
    }
  }

  private func turn(_ connection: BenchConnection) throws {
    try connection.read(waits: false)
    let now = monotonicNanoseconds()
    if now < end { try refill(connection, now) }
  }

  private func refill(_ connection: BenchConnection, _ now: UInt64) throws {
    for _ in 0..<connection.takeEnded() { try connection.begin(at: now) }
    try connection.flush()
  }

  // MARK: - Calls begin at a rate

  /// `interval` in nanoseconds, `offset` of the first call from the start.
  func runOpen(interval: Double, offset: Double) throws {
    var index = 0
    var next = 0
    func due() -> UInt64 { start + UInt64(offset + Double(index) * interval) }
    while true {
      let now = monotonicNanoseconds()
      if due() >= end && connections.allSatisfy({ $0.open == 0 }) { return }
      if now >= end + BenchRun.lastTime { break }
      // What finds no room waits, and that counts: from when it was due.
      while due() <= now && due() < end, let connection = withRoom(&next) {
        try connection.begin(at: due())
        index += 1
      }
      for connection in connections where connection.wantsToWrite { try connection.flush() }
      let wait = due() < end && due() > now ? due() - now : due() < end ? 0 : 100_000_000
      let milliseconds =
        wait > BenchRun.awakeTime ? Int32((wait - BenchRun.awakeTime) / 1_000_000) : 0
      for connection in try ready(within: milliseconds) {
        try connection.read(waits: false)
        _ = connection.takeEnded()
      }
    }
    let now = monotonicNanoseconds()
    for connection in connections { connection.giveUp(at: now) }
    while due() < end {
      connections[0].tally.unanswered += 1
      if due() >= countsFrom { connections[0].tally.latencies.add(now - due()) }
      index += 1
    }
  }

  /// The next connection in turn that may take a call.
  private func withRoom(_ next: inout Int) -> BenchConnection? {
    for _ in 0..<connections.count {
      let connection = connections[next]
      next = (next + 1) % connections.count
      if connection.open < depth { return connection }
    }
    return nil
  }

  // MARK: - Both

  /// What may be read, after what may be written has been.
  private func ready(within milliseconds: Int32) throws -> [BenchConnection] {
    for index in connections.indices {
      descriptors[index].events = Int16(
        connections[index].wantsToWrite ? POLLIN | POLLOUT : POLLIN)
    }
    if poll(&descriptors, nfds_t(descriptors.count), milliseconds) < 0 {
      if errno == EINTR { return [] }
      throw Complaint("poll: \(String(cString: strerror(errno)))")
    }
    var readable: [BenchConnection] = []
    for index in connections.indices where descriptors[index].revents != 0 {
      if descriptors[index].revents & Int16(POLLOUT) != 0 { try connections[index].flush() }
      if descriptors[index].revents & ~Int16(POLLOUT) != 0 { readable.append(connections[index]) }
    }
    return readable
  }

  /// Waits for the last answers.
  private func drain() throws {
    let limit = monotonicNanoseconds() + BenchRun.lastTime
    while connections.contains(where: { $0.open > 0 || $0.wantsToWrite }) {
      for connection in try ready(within: 100) { try connection.read(waits: false) }
      let now = monotonicNanoseconds()
      if now > limit {
        for connection in connections { connection.giveUp(at: now) }
        return
      }
    }
  }
}
