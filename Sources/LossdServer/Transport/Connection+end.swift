import Glibc
import LossdEngine
import LossdSocket
import LossdTensor
import LossdWire

// The end: of a stream, of the connection by either side, and of the daemon.
extension Connection {
  /// How long what still comes is read at the end, nanoseconds.
  private static let lastWordsTime: UInt64 = 1_000_000_000
  /// How long nothing is read from a connection whose user's descriptors wait to be closed,
  /// nanoseconds.
  private static let closerPause: UInt64 = 20_000_000

  /// A stream is over: its call can be used again.
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

  /// The daemon goes down: no new calls; the connection closes after the last.
  func drain() {
    guard phase == .open, lastStream == .max else { return }
    lastStream = highestStream
    if hasSentHello {
      sendGoAway()
    } else {
      // What it has sent may be on its way: without an answer it could not know that nothing of it
      // began.
      setStall(Connection.lastWordsTime)
    }
    wantsFlush()
  }

  /// Streams end at a batch boundary; with `force` all calls end now.
  func drainExpired(force: Bool) {
    for call in streams.calls where force || call.method.isStreaming {
      call.drainExpired()
    }
    wantsFlush()
  }

  func endIfIdle() {
    guard streams.isEmpty, output.isEmpty, hasSentHello, isPeerLeaving || lastStream != .max
    else { return }
    // What the client has sent meanwhile is read and dropped, or the kernel would answer it with a
    // reset, which could overtake our last answers.
    phase = .discarding
    shutdownWriting(descriptor)
    setStall(Connection.lastWordsTime)
    updateWatch()
  }

  /// A frame broke the rules: says so and closes.
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

  /// Whether there is room for descriptors of this client's user that may come with the next read;
  /// if not, that read is for later.
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

  /// Nobody hears the answers: work stops, calls end when it has.
  private func abandonCalls() {
    for call in streams.calls {
      call.cancel(StatusError(.cancelled, "the connection is gone"))
    }
  }
}
