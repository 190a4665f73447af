import LossdEngine
import LossdTensor

// Memory: charging the channel's buffers, and finding clients that keep memory from others.
extension Channel {
  /// About the bytes that a connection takes before its client does anything.
  private static let ownBytes = 8 << 10
  /// Fewer bytes a second do not count as progress while others wait for memory.
  private static let crawlBytes = 64 << 10

  /// Charges the change of the buffers' sizes.
  func settle() {
    let bytes =
      Channel.ownBytes + (withSession { $0.heldBytes } ?? 0) + leftover.capacity
      + output.frames.capacity
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

  /// Charges what a buffer of the session is about to grow by, until the next `settle` counts it.
  /// Returns the budget that has no room, or nil.
  func reserveHeld(_ bytes: Int) -> Shortage? {
    if let shortage = small.take(bytes) { return shortage }
    heldBytes += bytes
    return nil
  }

  /// The user's budget has no room for the bytes that the channel's buffers have grown by.
  /// Nothing is read until there is room, or the connection ends.
  private func waitForRoom() {
    let waiter =
      debtWaiter
      ?? MemoryWaiter(
        onRelease: { [unowned self] in payDebt() },
        onTimeout: { [unowned self] reason in
          session?.fail(
            context.memoryTimedOut("what the connection's buffers hold", reason).message,
            .resourceExhausted)
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

  /// Others wait for memory: ends calls that hold memory and do not get on, and the connection
  /// where its client does not take its results.
  func inspect(_ now: UInt64) {
    let timeout = context.limits.starveTimeout
    // The bytes that have to move in that time to count as progress.
    let progress = max(1, Int(clamping: timeout / 1_000_000) * Channel.crawlBytes / 1000)
    session?.inspect(now, timeout, progress: progress)
    guard phase != .closed else { return }
    let isHolding = output.byteCount > Channel.crawlBytes
    if !isHolding || written - inspectedWritten >= progress {
      inspectedWritten = written
      inspectedTime = now
    } else if now - inspectedTime >= timeout {
      // The client does not read its results, whose memory others need.
      close()
    }
  }
}
