import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire

// Reading, in turns: what a connection does when its descriptor is ready and its turn has come.
extension Connection {
  /// How long a connection is served in one turn, nanoseconds.
  private static let turnTime: UInt64 = 1_000_000
  /// The most bytes that one read copies.
  private static let readBytesMax = 1 << 20

  func ready(_ events: DescriptorWatcher.Events) {
    serverLoop.with { $0.noteEvent() }
    pendingEvents.formUnion(events)
    queueTurn()
  }

  /// Puts the connection into the line of its user.
  func queueTurn() {
    if isQueued { return }
    isQueued = true
    serverLoop.with { $0.turnLater(self) }
  }

  /// The connection's turn, for about `turnTime`. The caller keeps the connection alive.
  func turn() {
    isQueued = false
    let events = pendingEvents
    pendingEvents = []
    if phase == .closed { return }
    beginTurn()
    if events.contains(.writable) { flush() }
    if !leftover.isEmpty && mayDecode { resume() }
    if events.contains(.readable) && phase != .closed { read() }
    // The client is gone, or wants no more answers. Either way its calls are cancelled.
    if events.contains(.disconnected) && !mayRead && !isQueued { close() }
  }

  private func beginTurn() {
    turnEnd = Clock.now + Connection.turnTime
    turnFrames = 0
    isTurnCostly = false
  }

  /// Whether decoding pauses: the turn is over, or the queued output has reached its limit.
  func pausesDecoding() -> Bool {
    if output.byteCount >= limits.queuedBytesMax { return true }
    turnFrames += 1
    // Reading the clock takes a few percent of the time of a small call.
    return turnFrames & (isTurnCostly ? 0 : 7) == 0 && Clock.now >= turnEnd
  }

  private var mayDecode: Bool {
    phase == .open && !decoder.isWaiting && !isInDebt
      && output.byteCount < limits.queuedBytesMax
  }

  var mayRead: Bool {
    switch phase {
    case .open: mayDecode && leftover.isEmpty
    case .discarding: true
    case .closed: false
    }
  }

  /// Reads what the socket has, up to a bound, so that other connections get their turns.
  func read() {
    var rounds = 0
    while mayRead && rounds < 16 {
      rounds += 1
      if mayHoldDescriptors && !mayTakeDescriptors() { break }
      // The turn is over. The socket still has the rest when the loop looks for events again.
      if rounds > 1 && Clock.now >= turnEnd { break }
      let buffer = context.readBuffer.bytes
      let direct = phase == .open ? decoder.directDestination(minimum: 16 << 10) : nil
      let first = direct ?? buffer
      let isPart = first.count > Connection.readBytesMax
      // Bytes that follow a payload are read together with its end.
      let second =
        direct == nil || isPart ? UnsafeMutableRawBufferPointer(start: nil, count: 0) : buffer
      let piece = UnsafeMutableRawBufferPointer(rebasing: first.prefix(Connection.readBytesMax))
      let outcome =
        isUnix
        ? receive(descriptor, piece, second, refused: refuseDescriptors)
        : receive(descriptor, piece, second)
      guard case .bytes(let count) = outcome else {
        if outcome != .wouldBlock { close() }
        break
      }
      context.metrics.update { $0.received &+= UInt64(count) }
      if phase == .discarding { continue }
      take(count, direct: direct == nil ? nil : piece, buffer)
      if count < piece.count + second.count { break }
    }
    afterTurn()
  }

  func take(
    _ count: Int, direct: UnsafeMutableRawBufferPointer?, _ buffer: UnsafeMutableRawBufferPointer
  ) {
    isDecoding = true
    defer { isDecoding = false }
    do throws(BadFrame) {
      if hasSentDescriptors {
        throw BadFrame("a descriptor came along, and descriptors are never taken")
      }
      var rest = count
      if let direct {
        let part = min(count, direct.count)
        try decoder.directBytesArrived(part, self)
        rest -= part
      }
      if rest > 0 {
        try decode(UnsafeRawBufferPointer(start: buffer.baseAddress, count: rest))
      }
    } catch {
      isDecoding = false
      fail(error)
    }
  }

  private func decode(_ bytes: UnsafeRawBufferPointer) throws(BadFrame) {
    let used = try decoder.decode(bytes, self)
    if used < bytes.count { leftover.append(contentsOf: bytes[used...]) }
    if decoder.hasReadPreface { sendHello() }
  }

  /// Decodes the bytes that are left over. Called when memory has been released, when the frame
  /// that waited is to be dropped, or when it is the connection's turn.
  func resume() {
    guard phase == .open, !isDecoding else { return }
    if turnEnd < Clock.now { beginTurn() }
    isDecoding = true
    var failure: BadFrame?
    // The loop's spare array takes the bytes, and `decode` fills the other one with what is left,
    // so that nothing is allocated in the steady state.
    serverLoop.with { swap(&leftover, &$0.spareBytes) }
    context.spareBytes.withUnsafeBytes { bytes in
      do throws(BadFrame) { try decode(bytes) } catch { failure = error }
    }
    serverLoop.with { $0.spareBytes.removeAll(keepingCapacity: true) }
    isDecoding = false
    if let failure { fail(failure) }
    afterTurn()
  }

  /// Writes what the turn has queued, and sets timers and events for what comes next.
  func afterTurn() {
    if phase == .closed { return }
    flush()
    guard phase == .open else { return }
    endIfIdle()
    guard phase == .open else { return }
    settle()
    setReadTimers()
    updateWatch()
    if !leftover.isEmpty && mayDecode { queueTurn() }
  }

  func updateWatch() {
    var events: DescriptorWatcher.Events =
      mayRead && !isPausedForCloser ? .readable : .disconnected
    if !output.isEmpty { events.insert(.writable) }
    watcher?.watch(events)
  }
}
