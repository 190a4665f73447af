import Glibc
import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire
import Testing

@testable import LossdServer

/// A server's loop, and clients at the other ends of sockets, in the test's thread.
final class ChannelBench {
  let loop: Loop
  let server: ServerLoop
  private var clients: [Int32] = []
  private var number: UInt64 = 0

  init(_ limits: ServerLimits = ServerLimits()) throws {
    loop = try Loop()
    server = ServerLoop(loop, makeDaemon(limits), limits, busyPoll: 0)
  }

  /// A channel that speaks what `makeSession` makes, and its client's descriptor.
  func connect(_ makeSession: (Channel) -> Session) throws -> (Channel, Int32) {
    let (ours, theirs) = try Descriptor.pair(nonBlocking: true).take()
    clients.append(theirs)
    number += 1
    let user = try #require(server.daemon.users.join(.uid(1), connectionsMax: 100))
    let channel = Channel(
      server, server.channels, Descriptor(adopting: ours), number: number, .elsewhere, .all,
      server.channels.share(of: user))
    server.channels.add(channel)
    channel.speak(makeSession(channel))
    return (channel, theirs)
  }

  /// The client sends bytes, and the channel gets its turn.
  func send(_ bytes: [UInt8], _ channel: Channel, _ client: Int32) {
    #expect(write(client, bytes, bytes.count) == bytes.count)
    channel.ready(.readable)
    server.channels.serveTurns()
  }

  /// What the client has been sent; nil: the daemon has closed its end.
  func receive(_ client: Int32) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    let count = recv(client, &bytes, bytes.count, Int32(MSG_DONTWAIT))
    return count == 0 ? nil : Array(bytes.prefix(max(count, 0)))
  }

  /// Whether the daemon closes its end, having said nothing more: a thread of its own may do that.
  func isAtEnd(_ client: Int32) -> Bool {
    var event = pollfd(fd: client, events: Int16(POLLIN), revents: 0)
    return poll(&event, 1, 10_000) == 1 && receive(client) == nil
  }

  func close() {
    server.tearDown()
    for client in clients { Glibc.close(client) }
  }
}
