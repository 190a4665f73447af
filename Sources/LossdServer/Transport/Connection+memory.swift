import LossdEngine
import LossdWire

// Memory: charging the connection's buffers, waiting for room for a payload, and finding clients
// that keep memory from others.
extension Connection {
  /// About the bytes that a connection takes before its client does anything.
  private static let ownBytes = 8 << 10
  /// Fewer bytes a second do not count as progress while others wait for memory.
  private static let crawlBytes = 64 << 10

  /// Charges the change of the buffers' sizes.
  func settle() {
    let bytes =
      Connection.ownBytes + decoder.heldBytesMax + leftover.capacity + output.frames.capacity
    let change = bytes - heldBytes
    if change == 0 { return }
    heldBytes = bytes
    if change < 0 {
      small.give(-change)
      if isInDebt { payDebt() }
    } else if !small.force(change) {
      isInDebt = true
      waitForRoom()
    }
  }

  /// The user's budget has no room for the bytes that the connection's buffers have grown by.
  /// Nothing is read until there is room, or the connection ends.
  private func waitForRoom() {
    let waiter =
      debtWaiter
      ?? MemoryWaiter(
        onRelease: { [unowned self] in payDebt() },
        onTimeout: { [unowned self] reason in
          fail(
            BadFrame(
              context.memoryTimedOut("what the connection's buffers hold", reason).message,
              code: .resourceExhausted))
        })
    debtWaiter = waiter
    context.waits.wait(
      waiter, share.user, Shortage(budget: share.user.bytes), timeout: context.limits.waitTimeout)
    // First into the line, then one more try, so that no release in between is missed.
    if share.isCovered { payDebt() }
  }

  private func payDebt() {
    guard isInDebt, phase == .open else { return }
    guard share.isCovered else { return waitForRoom() }
    isInDebt = false
    if let debtWaiter, debtWaiter.isWaiting { context.waits.cancel(debtWaiter) }
    queueTurn()
    updateWatch()
  }

  /// Charges memory for a message that is about to come and is longer than the buffer that every
  /// connection has. Returns the budget that has no room, or nil.
  func reserveMessage(_ header: FrameHeader) -> Shortage? {
    if Int(header.messageLength) <= FrameDecoder.retainedBytes { return nil }
    let bytes = FrameDecoder.heldBytesMax(Int(header.messageLength))
    if let shortage = small.take(bytes) { return shortage }
    heldBytes += bytes
    return nil
  }

  /// There is no room yet for the payload that comes next. The payload is not read until there is.
  func waitForPayload(_ shortage: Shortage) {
    guard let payloadWaiter else { return }
    context.waits.wait(
      payloadWaiter, share.user, shortage, timeout: context.limits.waitTimeout)
  }

  func stopWaitingForPayload() {
    if let payloadWaiter, payloadWaiter.isTimed { context.waits.cancel(payloadWaiter) }
  }

  func payloadTimedOut(_ reason: String) {
    guard decoder.isWaiting, let header = decoder.currentHeader,
      let call = streams[header.streamID]?.object
    else { return }
    call.dropRequests()
    call.refuseRequest(context.memoryTimedOut("a payload of \(header.payloadLength) bytes", reason))
    resume()
  }

  /// Others wait for memory: ends calls that hold memory and do not get on, and the connection
  /// where its client does not take its results.
  func inspect(_ now: UInt64) {
    let timeout = context.limits.starveTimeout
    for call in streams.calls { call.inspect(now, timeout) }
    guard phase != .closed else { return }
    let isHolding = output.byteCount > Connection.crawlBytes
    if !isHolding || written - inspectedWritten >= Connection.progress(in: timeout) {
      inspectedWritten = written
      inspectedTime = now
    } else if now - inspectedTime >= timeout {
      // The client does not read its results, whose memory others need.
      close()
    }
  }

  /// The bytes that have to move in so many nanoseconds to count as progress.
  static func progress(in time: UInt64) -> Int {
    max(1, Int(clamping: time / 1_000_000) * crawlBytes / 1000)
  }
}
