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
    /// Set once it is known to speak gRPC.
    var refusal: HTTP2Refusal?
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
    } catch { tell(connection) }
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

  /// The connection has sent something.
  private func speaks(_ descriptor: Int32) {
    guard let index = connections.firstIndex(where: { $0.descriptor == descriptor }) else { return }
    if connections[index].refusal != nil { return asks(index) }
    // The first byte tells the protocols apart. It is left where it is.
    var first: UInt8 = 0
    let count = recv(descriptor, &first, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
    if count < 0 && errno == EAGAIN { return }
    let isGRPC = count == 1 && first == HTTP2Connection.preface.utf8.first
    if isGRPC && connections[index].protocols.contains(.grpc) {
      send(HTTP2Refusal.settings, connections[index])
      connections[index].refusal = HTTP2Refusal()
      return asks(index)
    }
    stopWatching(index)
    if count == 1 && !isGRPC { tell(connections[index]) }
  }

  /// A client of gRPC gets its answer when it asks for something.
  private func asks(_ index: Int) {
    let connection = connections[index]
    withUnsafeTemporaryAllocation(byteCount: 4 << 10, alignment: 16) { buffer in
      let none = UnsafeMutableRawBufferPointer(start: nil, count: 0)
      let outcome =
        socketFamily(connection.descriptor) == AF_UNIX
        ? receive(connection.descriptor, buffer, none) { [self] in
          context.daemon.closer.close(
            $0, of: UserID(peerOf: connection.descriptor, connection: 0))
        }
        : receive(connection.descriptor, buffer, none)
      switch outcome {
      case .wouldBlock: return
      case .bytes(let count):
        let bytes = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count])
        guard
          let answer = connections[index].refusal?.take(
            bytes, .resourceExhausted, connection.reason)
        else { return }
        send(answer, connection)
        shutdownWriting(connection.descriptor)
        stopWatching(index)
      default: stopWatching(index)
      }
    }
  }

  private func stopWatching(_ index: Int) {
    connections[index].watcher?.close()
    connections[index].watcher = nil
  }

  /// Tells a client of lossd's own wire.
  private func tell(_ connection: Connection) {
    guard connection.protocols.contains(.lossd) else { return }
    let frames = OutputBuffer()
    LossdSession.refuse(StatusError(.resourceExhausted, connection.reason), context, frames)
    send(Array(frames.bytes), connection)
    shutdownWriting(connection.descriptor)
  }

  /// As much as fits into the socket, which nothing was written to before.
  private func send(_ bytes: [UInt8], _ connection: Connection) {
    _ = bytes.withUnsafeBytes {
      Glibc.send(
        connection.descriptor, $0.baseAddress, $0.count,
        Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
    }
  }

  private func closeOldest() {
    if connections.isEmpty { return }
    let connection = connections.removeFirst()
    if let watcher = connection.watcher {
      watcher.close()
      // Whoever only listens is told in lossd's own frames.
      if connection.refusal == nil { tell(connection) }
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
