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

  /// It has something to do, when those before it have had their turns.
  func queueTurn() {
    if isQueued { return }
    isQueued = true
    serverLoop.with { $0.turnLater(self) }
  }

  /// It is its turn, for a millisecond. The caller keeps it alive.
  func turn() {
    isQueued = false
    let events = pendingEvents
    pendingEvents = []
    if phase == .closed { return }
    beginTurn()
    if events.contains(.writable) { flush() }
    if !leftover.isEmpty && mayDecode { resume() }
    if events.contains(.readable) && phase != .closed { read() }
    // The client is gone, or wants no more answers: either way its calls are cancelled.
    if events.contains(.disconnected) && !mayRead && !isQueued { close() }
  }

  private func beginTurn() {
    turnEnd = Clock.now + Connection.turnTime
    turnFrames = 0
    isTurnCostly = false
  }

  /// The connection's turn is over, or as much output is queued as may be.
  func pausesDecoding() -> Bool {
    if output.byteCount >= limits.queuedBytesMax { return true }
    turnFrames += 1
    // Looking at the clock costs as much as a few percent of a small call.
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

  /// Reads what is there, up to a bound so that neighbours get their turn.
  func read() {
    var rounds = 0
    while mayRead && rounds < 16 {
      rounds += 1
      if mayHoldDescriptors && !mayTakeDescriptors() { break }
      // Its neighbours' turn: what is left is still there when the loop looks for events again.
      if rounds > 1 && Clock.now >= turnEnd { break }
      let buffer = context.readBuffer.bytes
      let direct = phase == .open ? decoder.directDestination(minimum: 16 << 10) : nil
      let first = direct ?? buffer
      let isPart = first.count > Connection.readBytesMax
      // What follows a payload is read with the end of it.
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

  /// The decoder may go on: memory has been released, the frame that waited is to be dropped, or it
  /// is the connection's turn.
  func resume() {
    guard phase == .open, !isDecoding else { return }
    if turnEnd < Clock.now { beginTurn() }
    isDecoding = true
    var failure: BadFrame?
    // The loop's spare array is filled with what is left now, so that nothing is allocated in the
    // steady state.
    serverLoop.with { swap(&leftover, &$0.spareBytes) }
    context.spareBytes.withUnsafeBytes { bytes in
      do throws(BadFrame) { try decode(bytes) } catch { failure = error }
    }
    serverLoop.with { $0.spareBytes.removeAll(keepingCapacity: true) }
    isDecoding = false
    if let failure { fail(failure) }
    afterTurn()
  }

  /// Writes what the turn has produced, and watches for what comes next.
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
