import Glibc
import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire
import Testing

@testable import LossdServer

@Suite struct TurnQueueTests {
  /// Connections of users, whose clients have sent a PREFACE, a HELLO and a call that is refused,
  /// so that the access log tells whose turn it was.
  private final class Bench {
    let loop: Loop
    let server: ServerLoop
    let lines = Shared<[String]>([])
    private let log: AccessLog
    private var clients: [Int32] = []
    private var users: [UserShare] = []

    init(users count: Int) throws {
      loop = try Loop()
      let daemon = makeDaemon()
      server = ServerLoop(loop, daemon, ServerLimits(), busyPoll: 0)
      let lines = lines
      log = AccessLog { text in lines.withLock { $0 += text } }
      server.accessLog = log
      for uid in 0..<count {
        let user = try #require(daemon.users.join(.uid(UInt32(uid)), connectionsMax: 100))
        users.append(UserShare(user, daemon))
      }
    }

    func connection(_ user: Int, number: UInt64) throws -> Connection {
      let (ours, theirs) = try Descriptor.pair(nonBlocking: true).take()
      clients.append(theirs)
      // As `ServerLoop.adopt` counts them.
      users[user].connections += 1
      server.metrics.update { $0.open += 1 }
      let connection = Connection(
        server, Descriptor(adopting: ours), number: number, .elsewhere, users[user])
      let frames = OutputBuffer()
      frames.encodePreface()
      frames.encodeFrame(hello: HelloMessage(software: "test"))
      frames.encodeFrame(open: "/none", stream: 1)
      #expect(write(theirs, frames.bytes.baseAddress, frames.count) == frames.count)
      return connection
    }

    /// The connections' numbers in the order of their calls.
    func served() -> [Int] {
      log.close()
      return lines.withLock { $0 }.compactMap { line in
        line.split(separator: " ").first { $0.hasPrefix("connection=") }
          .flatMap { Int($0.dropFirst("connection=".count)) }
      }
    }

    func close(_ connections: [Connection]) {
      for connection in connections { connection.close() }
      for client in clients { Glibc.close(client) }
      server.accessLog = nil
      server.tearDown()
    }
  }

  @Test("users take turns, and the connections of one within the user's, so that many gain nothing")
  func order() throws {
    let bench = try Bench(users: 3)
    // Three of the first user, one of the second, two of the third.
    let owners = [0, 0, 0, 1, 2, 2]
    let connections = try owners.enumerated().map { try bench.connection($1, number: UInt64($0)) }
    for connection in connections { connection.ready(.readable) }
    // Whoever stands in line already is not put there twice.
    for connection in connections { connection.ready(.readable) }
    let turns = bench.server.turns
    #expect(!turns.isEmpty)
    while !turns.isEmpty { turns.serve() }
    #expect(bench.served() == [0, 3, 4, 1, 5, 2])
    bench.close(connections)
  }

  @Test("a connection that closes while it waits for its turn is passed by")
  func closing() throws {
    let bench = try Bench(users: 2)
    let connections = try [0, 0, 1].enumerated().map {
      try bench.connection($1, number: UInt64($0))
    }
    for connection in connections { connection.ready(.readable) }
    connections[0].close()
    let turns = bench.server.turns
    while !turns.isEmpty { turns.serve() }
    #expect(bench.served() == [2, 1])
    bench.close(connections)
  }
}
