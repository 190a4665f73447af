import LossdTensor

/// One protocol, spoken over a channel: bytes come in and become calls, answers become bytes. A
/// session knows nothing of functions, and a channel nothing of protocols: this class is all that
/// it asks of one. Confined to its loop's thread.
class Session {
  /// What the time limits of a channel depend on.
  enum Reading: Equatable {
    /// The client has not said yet who it is: `limits.hello_timeout` runs from the connection on.
    case starting
    /// Some bytes of a message have come: the time runs from the first of this message's.
    case message(number: UInt64)
    /// The bytes that belong to a message are on their way: the time runs from the last of them.
    case payload
    /// Nothing is under way.
    case between
  }

  /// A channel has its session, and outlives it.
  final let channelReference: Unretained<Channel>

  init(_ channel: Channel) { channelReference = Unretained(channel) }

  final var channel: Channel { channelReference.object }

  /// The channel speaks this protocol from now on.
  func begin() {}

  // MARK: - Reading

  /// Takes bytes and returns how many it has used: fewer than given only where it waits for memory,
  /// or where `channel.pausesReading()`; the channel gives the rest again.
  func take(_ bytes: UnsafeRawBufferPointer) -> Int { preconditionFailure("a protocol's") }

  /// The channel is about to write: what waits for room in its output may be queued.
  func fillOutput() {}

  /// More waits than the last `fillOutput` has queued.
  var hasMoreOutput: Bool { false }

  /// Where the channel may read straight into: the rest of a payload, of at least `minimum` bytes.
  func directDestination(minimum: Int) -> UnsafeMutableRawBufferPointer? { nil }

  /// So many bytes have been read there.
  func directBytesArrived(_ count: Int) {}

  /// Nothing more is to be read until there is memory.
  var isWaiting: Bool { false }

  var reading: Reading { .between }

  /// What is spoken is not known yet, and so no way to say that something is wrong.
  var isSniffing: Bool { false }

  // MARK: - Limits

  /// What the session's buffers hold, bytes.
  var heldBytes: Int { 0 }

  var hasCalls: Bool { false }

  /// Others wait for memory: ends the calls that hold memory and do not get on.
  /// - Parameter progress: bytes that count as progress within `timeout` nanoseconds.
  func inspect(_ now: UInt64, _ timeout: UInt64, progress: Int) {}

  // MARK: - The end

  /// Begin no more calls: the daemon goes down.
  func drain() {}

  /// Calls of streams end after what is under way; with `force` all calls end now.
  func drainExpired(force: Bool) {}

  /// There are no calls any more, and no new ones will begin.
  var isOver: Bool { false }

  /// The client breaks the rules or the limits: the session says so, where there is a way to say it
  /// (`channel.endAfterLastWords`), or closes the channel.
  func fail(_ reason: String, _ code: StatusCode) { channel.close() }

  /// The time limit of `reading` is over.
  func stalled() { channel.close() }

  /// The channel is closed, or nothing that is sent is read any more: all calls are cancelled.
  func abandonCalls() {}

  /// The channel is closed.
  func closed() {}
}
