import Glibc
import LossdEngine
import LossdSocket
import LossdTensor
import LossdWire

// The end: of the connection by either side, and of the daemon.
extension Channel {
  /// How long the connection still reads and drops what comes at the end, nanoseconds.
  static let lastWordsTime: UInt64 = 1_000_000_000
  /// How long nothing is read from a channel whose user's descriptors wait to be closed,
  /// nanoseconds.
  private static let closerPause: UInt64 = 20_000_000

  /// The daemon goes down. No new call begins, and the channel closes after the last one.
  func drain() {
    guard phase == .open, !isDraining else { return }
    isDraining = true
    session?.drain()
    wantsFlush()
  }

  /// Streams end after the batches that are under way; with `force` all calls end now.
  func drainExpired(force: Bool) {
    session?.drainExpired(force: force)
    wantsFlush()
  }

  func endIfOver() {
    guard output.isEmpty, withSession({ $0.isOver }) == true else { return }
    // What the client has sent meanwhile is read and dropped. Else the kernel would answer with a
    // reset, which could overtake the last answers.
    phase = .discarding
    shutdownWriting(descriptor)
    setStall(Channel.lastWordsTime)
    updateWatch()
  }

  /// The connection ends: calls are cancelled, `encode` appends why, and what still comes is
  /// dropped.
  func endAfterLastWords(_ encode: (OutputBuffer) -> Void) {
    guard phase == .open else { return }
    phase = .discarding
    session?.abandonCalls()
    send(encode)
    setStall(Channel.lastWordsTime)
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
    if let debtWaiter, debtWaiter.isWaiting { context.waits.cancel(debtWaiter) }
    small.give(heldBytes)
    heldBytes = 0
    for entry in [stallEntry, writeEntry, closerEntry] {
      if let entry { context.deadlines.cancel(entry) }
    }
    table.object.closed(self)
    session?.closed()
    callEnded()
  }

  /// The session has let go of a call: with the last one a closed channel is forgotten.
  func callEnded() {
    if phase == .closed && withSession({ $0.hasCalls }) != true { table.object.forget(self) }
  }

  func closeDescriptor() {
    if mayHoldDescriptors {
      context.daemon.closer.close(descriptor, of: closerKey)
    } else {
      _ = Glibc.close(descriptor)
    }
  }

  // MARK: - Descriptors that nobody wants

  /// Whether there is room for the descriptors that may come with the next read. If not, the
  /// channel reads again after a pause.
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
    context.deadlines.set(entry, at: Clock.now + Channel.closerPause)
    return false
  }

  /// The closer's threads close them, and the connection that sent them ends.
  func refuseDescriptors(_ descriptors: UnsafeBufferPointer<Int32>) {
    hasSentDescriptors = true
    context.daemon.closer.close(descriptors, of: closerKey)
  }

  private var closerKey: AnyHashable { share.user.id }
}
