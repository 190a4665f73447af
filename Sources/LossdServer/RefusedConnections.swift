import Glibc
import LossdEngine
import LossdHTTP
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire

/// Connections that get no channel, since their user has too many: each is told so in what it
/// speaks, and closed soon. By then it has sent its first bytes, and reads the answer. Confined to
/// the loop's thread.
final class RefusedConnections {
  /// So many are open for a moment more, and for how long, nanoseconds.
  private static let connectionsMax = 64
  private static let time: UInt64 = 250_000_000

  private struct Connection {
    let descriptor: Int32
    let protocols: [WireProtocol]
    let reason: String
    /// nil: it has been told.
    var watcher: DescriptorWatcher?
  }

  /// The loop has its refused connections.
  private unowned let context: LoopContext
  /// The oldest first.
  private var connections: [Connection] = []
  private var entry: DeadlineEntry?

  init(_ context: LoopContext) { self.context = context }

  func add(_ descriptor: consuming Descriptor, _ protocols: [WireProtocol], _ reason: String) {
    if connections.count >= RefusedConnections.connectionsMax { closeOldest() }
    let raw = descriptor.take()
    var connection = Connection(descriptor: raw, protocols: protocols, reason: reason)
    do throws(LoopError) {
      connection.watcher = try DescriptorWatcher(context.loop, descriptor: raw) {
        [unowned self] _ in speaks(raw)
      }
      connection.watcher?.watch(.readable)
    } catch { tell(connection, .lossd) }
    connections.append(connection)
    if connections.count == 1 { watch() }
  }

  func close() {
    while !connections.isEmpty { closeOldest() }
  }

  private func watch() {
    let entry = entry ?? DeadlineEntry { [unowned self] in close() }
    self.entry = entry
    context.deadlines.set(entry, at: Clock.now + RefusedConnections.time)
  }

  /// The first byte tells the protocols apart. It is left where it is.
  private func speaks(_ descriptor: Int32) {
    guard let index = connections.firstIndex(where: { $0.descriptor == descriptor }) else { return }
    var first: UInt8 = 0
    let count = recv(descriptor, &first, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
    if count < 0 && errno == EAGAIN { return }
    connections[index].watcher?.close()
    connections[index].watcher = nil
    if count == 1 {
      tell(connections[index], first == HTTP2Connection.preface.utf8.first ? .grpc : .lossd)
    }
  }

  private func tell(_ connection: Connection, _ spoken: WireProtocol) {
    guard connection.protocols.contains(spoken) else { return }
    let frames = OutputBuffer()
    switch spoken {
    case .lossd:
      LossdSession.refuse(StatusError(.resourceExhausted, connection.reason), context, frames)
    case .grpc: HTTP2Connection.refusal(connection.reason).withUnsafeBytes { frames.append($0) }
    }
    var vector = iovec(
      iov_base: UnsafeMutableRawPointer(mutating: frames.bytes.baseAddress),
      iov_len: frames.count)
    _ = withUnsafePointer(to: &vector) {
      send(connection.descriptor, UnsafeBufferPointer(start: $0, count: 1))
    }
    shutdownWriting(connection.descriptor)
  }

  private func closeOldest() {
    if connections.isEmpty { return }
    let connection = connections.removeFirst()
    if let watcher = connection.watcher {
      // It has said nothing: whoever only listens is told in lossd's own frames.
      watcher.close()
      tell(connection, .lossd)
    }
    if mayHoldDescriptors(connection.descriptor) {
      // What it has sent may take for ever to be closed.
      context.daemon.closer.close(
        connection.descriptor, of: UserID(peerOf: connection.descriptor, connection: 0))
    } else {
      _ = Glibc.close(connection.descriptor)
    }
  }
}
