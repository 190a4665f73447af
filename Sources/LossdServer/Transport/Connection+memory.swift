import LossdEngine
import LossdWire

// Memory: what the connection's buffers hold is charged, payloads wait for room, and clients that
// keep memory from others are found.
extension Connection {
  /// What a connection takes of memory before the client does anything, about.
  private static let ownBytes = 8 << 10
  /// Fewer bytes a second are no progress, where others wait for memory.
  private static let crawlBytes = 64 << 10

  /// Charges what the buffers have become.
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

  /// The user's budget has no room for what the connection's buffers have become: nothing is read
  /// until it has, or the connection ends.
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
    // First in line, then tried again: memory released in between is not missed.
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

  /// Charges memory for a message that is about to come, where it is more than any connection has
  /// anyway. False where there is no room.
  func reserveMessage(_ header: FrameHeader) -> Shortage? {
    if Int(header.messageLength) <= FrameDecoder.retainedBytes { return nil }
    let bytes = FrameDecoder.heldBytesMax(Int(header.messageLength))
    if let shortage = small.take(bytes) { return shortage }
    heldBytes += bytes
    return nil
  }

  /// The payload that comes next has no memory yet: it is not read until it has.
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

  /// Others wait for memory: ends what holds some and does not get on.
  func sweep(_ now: UInt64) {
    let timeout = context.limits.starveTimeout
    for call in streams.calls { call.sweep(now, timeout) }
    guard phase != .closed else { return }
    let isHolding = output.byteCount > Connection.crawlBytes
    if !isHolding || written - sweptWritten >= Connection.progress(in: timeout) {
      sweptWritten = written
      sweptTime = now
    } else if now - sweptTime >= timeout {
      // Its client does not read the results, whose memory others need.
      close()
    }
  }

  /// Bytes that have to get on in so many nanoseconds.
  static func progress(in time: UInt64) -> Int {
    max(1, Int(clamping: time / 1_000_000) * crawlBytes / 1000)
  }
}
