import Glibc
import LossdEngine
import LossdSocket
import LossdTensor
import LossdWire

// The end: of a stream, of the connection by either side, and of the daemon.
extension Connection {
  /// How long the connection still reads and drops what comes at the end, nanoseconds.
  private static let lastWordsTime: UInt64 = 1_000_000_000
  /// How long nothing is read from a connection whose user's descriptors wait to be closed,
  /// nanoseconds.
  private static let closerPause: UInt64 = 20_000_000

  /// A stream is over. Its call goes back to the loop's spare ones.
  func closeStream(_ id: UInt32) {
    guard let call = streams.remove(id) else { return }
    if !isDecoding, phase == .open, let header = decoder.currentHeader, header.type == .message,
      header.streamID == id
    {
      let wasWaiting = decoder.isWaiting
      decoder.dropRestOfFrame()
      if wasWaiting { context.resumeLater(self) }
    }
    call.reset()
    share.streams -= 1
    small.give(StreamCall.ownBytes)
    serverLoop.with { $0.give(call) }
    if streams.isEmpty && (isPeerLeaving || lastStream != .max) { wantsFlush() }
    if phase == .closed && streams.isEmpty { context.forget(self) }
  }

  /// The daemon goes down. No new call begins, and the connection closes after the last one.
  func drain() {
    guard phase == .open, lastStream == .max else { return }
    lastStream = highestStream
    if hasSentHello {
      sendGoAway()
    } else {
      // The client may have sent something that is still on its way. The GOAWAY that follows HELLO
      // tells the client that nothing of it began.
      setStall(Connection.lastWordsTime)
    }
    wantsFlush()
  }

  /// Streams end after the batches that are under way; with `force` all calls end now.
  func drainExpired(force: Bool) {
    for call in streams.calls where force || call.method.isStreaming {
      call.drainExpired()
    }
    wantsFlush()
  }

  func endIfIdle() {
    guard streams.isEmpty, output.isEmpty, hasSentHello, isPeerLeaving || lastStream != .max
    else { return }
    // What the client has sent meanwhile is read and dropped. Else the kernel would answer with a
    // reset, which could overtake the last answers.
    phase = .discarding
    shutdownWriting(descriptor)
    setStall(Connection.lastWordsTime)
    updateWatch()
  }

  /// A frame broke the rules: GOAWAY says which, and the connection closes.
  func fail(_ error: BadFrame) {
    guard phase == .open else { return }
    if error.kind == .preface {
      close()
      return
    }
    sendHello()
    phase = .discarding
    abandonCalls()
    output.frames.encodeFrame(
      goAway: GoAwayMessage(
        lastStreamID: highestStream,
        status: StatusMessage(code: error.code.rawValue, message: error.reason)))
    output.framesAppended()
    setStall(Connection.lastWordsTime)
    flush()
  }

  func close() {
    guard phase != .closed else { return }
    phase = .closed
    watcher?.close()
    watcher = nil
    closeDescriptor()
    output.removeAll()
    leftover = []
    stopWaitingForPayload()
    if let debtWaiter, debtWaiter.isWaiting { context.waits.cancel(debtWaiter) }
    small.give(heldBytes)
    heldBytes = 0
    endRegions()
    for entry in [stallEntry, writeEntry, closerEntry] {
      if let entry { context.deadlines.cancel(entry) }
    }
    context.closed(self)
    abandonCalls()
    if streams.isEmpty { context.forget(self) }
  }

  func closeDescriptor() {
    if mayHoldDescriptors {
      context.daemon.closer.close(descriptor, of: closerKey)
    } else {
      _ = Glibc.close(descriptor)
    }
  }

  /// Whether there is room for the descriptors that may come with the next read. If not, the
  /// connection reads again after a pause.
  func mayTakeDescriptors() -> Bool {
    if context.daemon.closer.hasRoom(for: closerKey) { return true }
    if isPausedForCloser { return false }
    isPausedForCloser = true
    let entry =
      closerEntry
      ?? DeadlineEntry { [unowned self] in
        isPausedForCloser = false
        if phase != .closed { updateWatch() }
      }
    closerEntry = entry
    context.deadlines.set(entry, at: Clock.now + Connection.closerPause)
    return false
  }

  /// Nobody reads the answers any more: all calls are cancelled, and end when their work has
  /// stopped.
  private func abandonCalls() {
    for call in streams.calls {
      call.cancel(StatusError(.cancelled, "the connection is gone"))
    }
  }
}
