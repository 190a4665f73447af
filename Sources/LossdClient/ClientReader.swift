import Glibc
import LossdSocket
import LossdTensor
import LossdWire

/// The reading side of a connection: a thread that turns bytes into responses. Confined to its
/// thread.
///
/// `@unchecked Sendable`: made by one thread and then used by the reading one alone.
final class ClientReader: FrameSink, @unchecked Sendable {
  private let connection: ClientConnection
  private let descriptor: Int32
  private let decoder: FrameDecoder
  private let sharesMemory: Bool
  /// Descriptors of regions that have come before their frames were whole; nil: one was lost. The
  /// frames come in the same order, each with the first byte of its own.
  private var descriptors: [Int32?] = []
  private let arena = MessageArena()
  private let buffer = AlignedBuffer(count: 64 << 10)
  private var message: [UInt8] = []
  private var payload = AlignedBuffer(count: 0)

  init(_ connection: ClientConnection, _ descriptor: Int32, sharesMemory: Bool) {
    self.connection = connection
    self.descriptor = descriptor
    self.sharesMemory = sharesMemory
    decoder = FrameDecoder(
      role: .client, maxMessageBytes: 64 << 20, sharedMemory: sharesMemory)
  }

  deinit {
    for case let left? in descriptors { _ = close(left) }
  }

  func run() {
    let reason = read()
    connection.close(reason)
    connection.readerEnded()
  }

  private func read() -> StatusError {
    while true {
      let direct = decoder.directDestination(minimum: 16 << 10)
      switch receive(direct) {
      case .bytes(let count):
        do throws(BadFrame) {
          // Each is of a region that somebody waits for.
          if descriptors.count > connection.regionsAsked {
            throw BadFrame("a descriptor that was not asked for")
          }
          var rest = count
          if let direct {
            let part = min(count, direct.count)
            try decoder.directBytesArrived(part, self)
            rest -= part
          }
          if rest > 0 {
            _ = try decoder.decode(
              UnsafeRawBufferPointer(start: buffer.base, count: rest), self)
          }
        } catch {
          return StatusError(.internal, "the server broke the protocol: \(error.reason)")
        }
      case .endOfFile: return StatusError(.unavailable, "the server closed the connection")
      case .failed(let number):
        return StatusError(.unavailable, "reading failed: \(errorText(number))")
      case .wouldBlock:
        var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        poll(&wait, 1, -1)
      }
    }
  }

  private func receive(_ direct: UnsafeMutableRawBufferPointer?) -> IOResult {
    if !sharesMemory {
      guard let direct else { return LossdSocket.receive(descriptor, buffer.bytes) }
      return LossdSocket.receive(descriptor, direct, buffer.bytes)
    }
    var (passed, isLost): (Int32?, Bool) = (nil, false)
    let outcome = LossdSocket.receive(
      descriptor, direct ?? buffer.bytes,
      direct == nil ? UnsafeMutableRawBufferPointer(start: nil, count: 0) : buffer.bytes,
      descriptor: &passed, isLost: &isLost)
    if isLost, let one = passed {
      // More than the one that belongs to a region: none is.
      _ = close(one)
      passed = nil
    }
    if passed != nil || isLost { descriptors.append(passed) }
    return outcome
  }

  // MARK: - Frames

  /// A response that nobody waits for is not kept: one of a call that is over is what was on its
  /// way, any other ends the connection.
  func frameBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition {
    guard header.type == .message else { return .receive }
    let stream = header.streamID
    let (isOpened, due) = connection.state.withLock { state in
      (stream < state.nextStream, state.calls[stream]?.responsesDue)
    }
    if !isOpened { throw BadFrame("a response on stream \(stream), which was never opened") }
    if due == 0 { throw BadFrame("a response on stream \(stream) to no request") }
    return due == nil ? .drop : .receive
  }

  func messageArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    defer { arena.reset() }
    if header.type == .ping { return try pingArrived(header, message) }
    do throws(StatusError) {
      switch header.type {
      case .hello: try helloArrived(try HelloMessage(decoding: message, in: arena))
      case .message:
        self.message = Array(message)
        payload = AlignedBuffer(count: 0)
      case .status:
        let status = try StatusMessage(decoding: message, in: arena)
        end(header.streamID, .failure(status.error))
      case .credit:
        credit(header.streamID, try CreditMessage(decoding: message, in: arena).messages)
      case .goAway: goAwayArrived(try GoAwayMessage(decoding: message, in: arena))
      case .region: try regionArrived(try RegionResultMessage(decoding: message, in: arena))
      case .open, .cancel, .ping, .release: break
      }
    } catch { throw BadFrame(header, error) }
  }

  func payloadDestination(_ header: FrameHeader) -> PayloadDisposition {
    do throws(StatusError) {
      payload = try AlignedBuffer(reserving: Int(header.payloadLength))
    } catch {
      end(header.streamID, .failure(error))
      return .drop
    }
    return .receive(payload.base)
  }

  func frameEnded(_ header: FrameHeader) throws(BadFrame) {
    guard header.type == .message else { return }
    let response = (message, payload)
    let isLast = header.endsStream
    message = []
    let waiters = connection.state.withLock { state -> [CheckedContinuation<Void, Never>] in
      guard let call = state.calls[header.streamID], call.responsesDue > 0 else { return [] }
      call.responses.append(response)
      call.responsesDue -= 1
      var waiters = call.takeWaiters()
      if isLast {
        call.end = .success(())
        state.calls.removeValue(forKey: header.streamID)
        waiters += state.slotWaiters
        state.slotWaiters = []
      }
      return waiters
    }
    for waiter in waiters { waiter.resume() }
  }

  private func helloArrived(_ hello: HelloMessage) throws(StatusError) {
    if hello.maxStreams == 0 {
      throw StatusError(.internal, "the server takes no calls: its HELLO has max_streams 0")
    }
    let waiters = connection.state.withLock { state in
      state.hello = hello
      defer { state.helloWaiters = [] }
      return state.helloWaiters
    }
    for waiter in waiters { waiter.resume() }
  }

  private func end(_ stream: UInt32, _ end: Result<Void, StatusError>) {
    let waiters = connection.state.withLock { state -> [CheckedContinuation<Void, Never>] in
      guard let call = state.calls.removeValue(forKey: stream) else { return [] }
      call.end = end
      let slots = state.slotWaiters
      state.slotWaiters = []
      return call.takeWaiters() + slots
    }
    for waiter in waiters { waiter.resume() }
  }

  private func credit(_ stream: UInt32, _ count: UInt32) {
    let waiters = connection.state.withLock { state -> [CheckedContinuation<Void, Never>] in
      guard let call = state.calls[stream] else { return [] }
      call.credit = min(call.credit + UInt64(count), UInt64(UInt32.max))
      return call.takeWaiters()
    }
    for waiter in waiters { waiter.resume() }
  }

  private func pingArrived(
    _ header: FrameHeader, _ bytes: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    guard header.flags.contains(.ack) else {
      let copy = Array(bytes)
      let answer = connection.encode { buffer in
        copy.withUnsafeBytes { buffer.encodeFrame(pingAck: $0) }
      }
      if !connection.sendAnswer(answer) {
        throw BadFrame(
          "it sends PINGs and does not read the answers: \(FrameWriter.answersMax) wait")
      }
      return
    }
    guard bytes.count == 8 else { return }
    let number = bytes.loadUnaligned(as: UInt64.self)
    connection.state.withLock { $0.pings.removeValue(forKey: number) }?.resume(returning: true)
  }

  /// The answer to a REGION: a descriptor goes to who waits for it, or nothing.
  private func regionArrived(_ result: RegionResultMessage) throws(StatusError) {
    let isMade = result.status.code == 0
    let descriptor = isMade && !descriptors.isEmpty ? descriptors.removeFirst() : nil
    let waiter = connection.state.withLock { $0.regions.removeValue(forKey: result.region) }
    guard let waiter else {
      if let descriptor { _ = close(descriptor) }
      throw StatusError(.internal, "region \(result.region) was not asked for")
    }
    // The daemon need not keep what has not come.
    if isMade && descriptor == nil { connection.release(result.region) }
    waiter.resume(returning: descriptor)
  }

  private func goAwayArrived(_ message: GoAwayMessage) {
    if message.status.code != 0 {
      connection.close(
        StatusError(.unavailable, "the server ended the connection: \(message.status.message)"))
      return
    }
    let waiters = connection.state.withLock { state -> [CheckedContinuation<Void, Never>] in
      state.isDraining = true
      state.isGoingAway = true
      var waiters = state.slotWaiters
      state.slotWaiters = []
      for (stream, call) in state.calls where stream > message.lastStreamID {
        call.neverBegan = true
        call.end = .failure(StatusError(.unavailable, "the server is shutting down"))
        waiters += call.takeWaiters()
        state.calls.removeValue(forKey: stream)
      }
      return waiters
    }
    for waiter in waiters { waiter.resume() }
  }
}
