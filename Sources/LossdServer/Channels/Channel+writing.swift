import LossdEngine
import LossdSocket
import LossdWire

// Writing: answers are gathered. They are written at the end of a turn, and within it every
// `answersPerWrite`.
extension Channel {
  /// A system call costs as much as two small calls. A client that waits for all answers of a turn
  /// loses more.
  private static let answersPerWrite = 32

  /// How often a session fills the output in one turn.
  private static let fillsMax = 8

  /// Queues what `encode` appends to the output's buffer; returns how many bytes that is.
  @discardableResult
  @inline(__always)
  func send<Failure>(_ encode: (OutputBuffer) throws(Failure) -> Void) throws(Failure) -> Int {
    let queued = output.byteCount
    try encode(output.frames)
    output.framesAppended()
    wantsFlush()
    return output.byteCount - queued
  }

  /// Something has been queued, and is to be written at the end of the turn.
  func wantsFlush() {
    if isDecoding { return flushSome() }
    if isFlushWanted { return }
    isFlushWanted = true
    table.with { $0.flushLater(self) }
  }

  func flushNow() {
    isFlushWanted = false
    afterTurn()
  }

  /// Writes in the middle of a turn with many calls, so that the client can work on the first
  /// answers while the others are made.
  private func flushSome() {
    unwrittenAnswers += 1
    guard unwrittenAnswers >= Channel.answersPerWrite, phase == .open else { return }
    unwrittenAnswers = 0
    var written = 0
    // Where this write fails, the write at the end of the turn fails too.
    _ = output.flush(descriptor, written: &written)
    count(written: written)
  }

  func flush() {
    unwrittenAnswers = 0
    var written = 0
    let before = output.byteCount
    let outcome = write(&written)
    count(written: written)
    switch outcome {
    case .drained:
      if let writeEntry, writeEntry.isSet { context.deadlines.cancel(writeEntry) }
      if phase == .discarding { shutdownWriting(descriptor) }
    case .blocked:
      if let writeEntry, written > 0 || before == 0 || !writeEntry.isSet {
        context.deadlines.set(writeEntry, at: Clock.now + context.limits.writeTimeout)
      }
    case .failed: close()
    }
    if phase != .closed { updateWatch() }
  }

  /// Writes until neither the queue nor the session has more, or the socket takes no more.
  private func write(_ written: inout Int) -> OutputQueue.Outcome {
    for _ in 0..<Channel.fillsMax {
      if phase == .open { withSession { $0.fillOutput() } }
      let outcome = output.flush(descriptor, written: &written)
      guard case .drained = outcome, phase == .open,
        withSession({ $0.hasMoreOutput }) == true
      else { return outcome }
    }
    // Others have their turns meanwhile.
    writeInNextTurn()
    return .drained
  }

  /// The session has something to do for its output, in a turn of the channel's.
  func writeInNextTurn() {
    pendingEvents.insert(.writable)
    queueTurn()
  }

  private func count(written: Int) {
    if written == 0 { return }
    self.written &+= written
    contextReference.with { $0.metrics.update { $0.sent &+= UInt64(written) } }
  }
}
