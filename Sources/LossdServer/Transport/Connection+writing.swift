import LossdEngine
import LossdSocket
import LossdWire

// Writing: answers are gathered. They are written at the end of a turn, and within it every
// `answersPerWrite`.
extension Connection {
  /// A system call costs as much as two small calls. A client that waits for all answers of a turn
  /// loses more.
  private static let answersPerWrite = 32

  /// Something has been queued, and is to be written at the end of the turn.
  func wantsFlush() {
    if isDecoding { return flushSome() }
    if isFlushWanted { return }
    isFlushWanted = true
    serverLoop.with { $0.flushLater(self) }
  }

  func flushNow() {
    isFlushWanted = false
    afterTurn()
  }

  /// Writes in the middle of a turn with many calls, so that the client can work on the first
  /// answers while the others are made.
  private func flushSome() {
    unwrittenAnswers += 1
    guard unwrittenAnswers >= Connection.answersPerWrite, phase == .open else { return }
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
    let outcome = output.flush(descriptor, written: &written)
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

  func count(written: Int) {
    if written == 0 { return }
    self.written &+= written
    serverLoop.with { $0.metrics.update { $0.sent &+= UInt64(written) } }
  }

  static func hello(_ daemon: DaemonState, _ limits: ServerLimits, isUnix: Bool) -> HelloMessage {
    HelloMessage(
      software: daemon.software, maxMessageBytes: limits.messageBytesMax,
      maxPayloadBytes: limits.payloadBytesMax, maxStreams: limits.streamsMax,
      streamCredit: limits.streamCredit, features: isUnix ? [Connection.sharedMemoryFeature] : [])
  }

  func sendHello() {
    if hasSentHello { return }
    hasSentHello = true
    output.frames.encodeFrame(hello: Connection.hello(context.daemon, limits, isUnix: isUnix))
    output.framesAppended()
    if lastStream != .max { sendGoAway() }
    wantsFlush()
  }

  func sendGoAway() {
    output.frames.encodeFrame(
      goAway: GoAwayMessage(
        lastStreamID: lastStream,
        status: StatusMessage(code: 0, message: "the daemon is shutting down")))
    output.framesAppended()
  }
}
