import Glibc
import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire
import Testing

@testable import LossdServer

@Suite struct TurnQueueTests {
  /// Channels of users, whose clients have sent a PREFACE, a HELLO and a call that is refused,
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

    func channel(_ user: Int, number: UInt64) throws -> Channel {
      let (ours, theirs) = try Descriptor.pair(nonBlocking: true).take()
      clients.append(theirs)
      let channel = Channel(
        server, server.channels, Descriptor(adopting: ours), number: number, .elsewhere, .all,
        users[user])
      server.channels.add(channel)
      channel.speak(server.firstSession(channel))
      let frames = OutputBuffer()
      frames.encodePreface()
      frames.encodeFrame(hello: HelloMessage(software: "test"))
      frames.encodeFrame(open: "/none", stream: 1)
      #expect(write(theirs, frames.bytes.baseAddress, frames.count) == frames.count)
      return channel
    }

    /// The channels' numbers in the order of their calls.
    func served() -> [Int] {
      log.close()
      return lines.withLock { $0 }.compactMap { line in
        line.split(separator: " ").first { $0.hasPrefix("connection=") }
          .flatMap { Int($0.dropFirst("connection=".count)) }
      }
    }

    func close(_ channels: [Channel]) {
      for channel in channels { channel.close() }
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
    let channels = try owners.enumerated().map { try bench.channel($1, number: UInt64($0)) }
    for channel in channels { channel.ready(.readable) }
    // Whoever stands in line already is not put there twice.
    for channel in channels { channel.ready(.readable) }
    let turns = bench.server.channels.turns
    #expect(!turns.isEmpty)
    while !turns.isEmpty { turns.serve() }
    #expect(bench.served() == [0, 3, 4, 1, 5, 2])
    bench.close(channels)
  }

  @Test("a channel that closes while it waits for its turn is passed by")
  func closing() throws {
    let bench = try Bench(users: 2)
    let channels = try [0, 0, 1].enumerated().map {
      try bench.channel($1, number: UInt64($0))
    }
    for channel in channels { channel.ready(.readable) }
    channels[0].close()
    let turns = bench.server.channels.turns
    while !turns.isEmpty { turns.serve() }
    #expect(bench.served() == [2, 1])
    bench.close(channels)
  }
}
