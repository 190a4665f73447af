/// Bytes in, frames out, after a client's preface: a state machine that holds at most one header or
/// one message.
///
/// A hot path: a header or message that lies whole in the given bytes is read in place; a payload
/// goes straight to where the sink says; what is dropped is never buffered; nothing is allocated in
/// the steady state. A class, because a sink that owns it may look at it while it decodes.
public final class FrameDecoder {
  /// The side that reads.
  public enum Role: Sendable {
    case server
    case client
  }

  enum Phase {
    case header
    case message
    /// The message is in, the payload has no destination yet.
    case destination
    case payload(UnsafeMutableRawPointer, received: Int)
    case dropping(left: Int)
    case failed
  }

  /// What is kept of the buffer for partial messages between two frames, bytes.
  public static let retainedBytes = 16 << 10

  var rules: FrameRules
  var phase: Phase
  var held = ByteBuffer(capacity: 256)
  /// Frames whose header has been read, with the one that is being read.
  public private(set) var frameNumber: UInt64 = 1
  /// The frame under way; meaningless between frames.
  var current = FrameHeader(type: .ping)

  /// - Parameters:
  ///   - maxMessageBytes: the limit for messages that this side announced in HELLO.
  ///   - sharedMemory: whether REGION and RELEASE are known, the feature `shm`.
  public init(
    role: Role, maxMessageBytes: UInt32 = 4 << 20, sharedMemory: Bool = false
  ) {
    rules = FrameRules(role: role, maxMessageBytes: maxMessageBytes, sharedMemory: sharedMemory)
    phase = .header
  }

  public var maxMessageBytes: UInt32 {
    get { rules.maxMessageBytes }
    set { rules.maxMessageBytes = newValue }
  }

  public var sharedMemory: Bool {
    get { rules.sharedMemory }
    set { rules.sharedMemory = newValue }
  }

  /// The sink said `.wait`; `decode`, with or without bytes, asks it again.
  public var isWaiting: Bool {
    if case .destination = phase { return true }
    return false
  }

  /// Some of a frame has been read and the rest has not.
  public var isMidFrame: Bool {
    switch phase {
    case .header: held.count > 0
    case .message, .destination, .payload, .dropping: true
    case .failed: false
    }
  }

  /// The header of the peer's HELLO has been read.
  public var hasSeenHello: Bool { rules.seenHello }

  /// Some of a header or of a message has been read and the rest has not.
  public var isMidMessage: Bool {
    switch phase {
    case .message: true
    case .header: held.count > 0
    default: false
    }
  }

  /// Memory held for a partial message, bytes: it follows what has come.
  public var heldCapacity: Int { held.capacity }

  /// The most that will be held for the message that has begun, bytes; else what is held.
  public var heldBytesMax: Int {
    if case .message = phase {
      return max(held.capacity, FrameDecoder.heldBytesMax(Int(current.messageLength)))
    }
    return held.capacity
  }

  /// The most that a partial message of so many bytes takes: memory for it doubles as it comes.
  public static func heldBytesMax(_ messageBytes: Int) -> Int { 2 * messageBytes }

  /// How much of the payload under way has been read, bytes.
  public var payloadReceived: Int {
    if case .payload(_, let received) = phase { return received }
    return 0
  }

  /// The header of the frame under way, once it is known.
  public var currentHeader: FrameHeader? {
    switch phase {
    case .message, .destination, .payload, .dropping: current
    case .header, .failed: nil
    }
  }

  /// Reads frames from `bytes` and tells `sink`; returns the bytes used up, fewer than given only
  /// when `isWaiting`, or before a frame where the sink `pausesDecoding`: keep the rest and give it
  /// again. After an error everything is read and ignored.
  public func decode(
    _ bytes: UnsafeRawBufferPointer, _ sink: any FrameSink
  ) throws(BadFrame) -> Int {
    do throws(BadFrame) {
      return try run(bytes, sink)
    } catch {
      phase = .failed
      throw error
    }
  }

  private func run(
    _ bytes: UnsafeRawBufferPointer, _ sink: any FrameSink
  ) throws(BadFrame) -> Int {
    var input = bytes[...]
    while true {
      let advanced: Bool
      switch phase {
      case .header:
        if !input.isEmpty && held.count == 0 && sink.pausesDecoding() {
          return bytes.count - input.count
        }
        advanced = try takeHeader(&input, sink)
      case .message: advanced = try takeMessage(&input, sink)
      case .destination: advanced = askDestination(sink)
      case .payload(let base, let received):
        advanced = try takePayload(&input, base, received, sink)
      case .dropping(let left): advanced = drop(&input, left)
      case .failed: return bytes.count
      }
      if !advanced { return bytes.count - input.count }
    }
  }
}

// MARK: - Steps: each returns whether the phase changed, else more bytes (or memory) are needed.

extension FrameDecoder {
  private typealias Input = Slice<UnsafeRawBufferPointer>

  private func takeHeader(_ input: inout Input, _ sink: any FrameSink) throws(BadFrame) -> Bool {
    guard let bytes = whole(FrameHeader.byteCount, &input) else { return false }
    guard let base = bytes.baseAddress else { return false }
    frameNumber &+= 1
    current = try rules.header(base)
    held.removeAll(retained: FrameDecoder.retainedBytes)
    switch try sink.frameBegan(current) {
    case .receive: phase = .message
    case .drop: phase = .dropping(left: Int(current.messageLength) + Int(current.payloadLength))
    }
    return true
  }

  private func takeMessage(_ input: inout Input, _ sink: any FrameSink) throws(BadFrame) -> Bool {
    guard let bytes = whole(Int(current.messageLength), &input) else { return false }
    try sink.messageArrived(current, bytes)
    held.removeAll(retained: FrameDecoder.retainedBytes)
    if current.payloadLength == 0 {
      phase = .header
      try sink.frameEnded(current)
    } else {
      phase = .destination
    }
    return true
  }

  private func askDestination(_ sink: any FrameSink) -> Bool {
    switch sink.payloadDestination(current) {
    case .receive(let base): phase = .payload(base, received: 0)
    case .drop: phase = .dropping(left: Int(current.payloadLength))
    case .wait: return false
    }
    return true
  }

  private func takePayload(
    _ input: inout Input, _ base: UnsafeMutableRawPointer, _ received: Int, _ sink: any FrameSink
  ) throws(BadFrame) -> Bool {
    let part = input.prefix(Int(current.payloadLength) - received)
    if part.isEmpty { return false }
    UnsafeMutableRawBufferPointer(start: base + received, count: part.count)
      .copyMemory(from: UnsafeRawBufferPointer(rebasing: part))
    input = input.dropFirst(part.count)
    return try payloadGrew(base, to: received + part.count, sink)
  }

  /// Whether the frame is complete.
  private func payloadGrew(
    _ base: UnsafeMutableRawPointer, to received: Int, _ sink: any FrameSink
  ) throws(BadFrame) -> Bool {
    if received < Int(current.payloadLength) {
      phase = .payload(base, received: received)
      return false
    }
    phase = .header
    try sink.frameEnded(current)
    return true
  }

  private func drop(_ input: inout Input, _ left: Int) -> Bool {
    let count = min(left, input.count)
    input = input.dropFirst(count)
    phase = count == left ? .header : .dropping(left: left - count)
    return count == left
  }

  /// The next `count` bytes in one piece, in place where possible, else through `held`; nil when
  /// some are still to come.
  private func whole(_ count: Int, _ input: inout Input) -> UnsafeRawBufferPointer? {
    let missing = count - held.count
    let part = UnsafeRawBufferPointer(rebasing: input.prefix(missing))
    input = input.dropFirst(part.count)
    if held.count == 0 && part.count == count { return part }
    held.append(part)
    return held.count == count ? held.bytes : nil
  }
}

// MARK: - Payloads without a copy

extension FrameDecoder {
  /// Where the socket may read the rest of the payload under way straight into, nil when there is
  /// none or fewer than `minimum` bytes are missing (reading those with what follows saves a system
  /// call).
  public func directDestination(minimum: Int) -> UnsafeMutableRawBufferPointer? {
    guard case .payload(let base, let received) = phase else { return nil }
    let left = Int(current.payloadLength) - received
    if left < max(minimum, 1) { return nil }
    return UnsafeMutableRawBufferPointer(start: base + received, count: left)
  }

  /// `count` bytes have been read into the start of `directDestination`.
  public func directBytesArrived(_ count: Int, _ sink: any FrameSink) throws(BadFrame) {
    guard case .payload(let base, let received) = phase else { return }
    precondition(count >= 0 && count <= Int(current.payloadLength) - received)
    do throws(BadFrame) {
      _ = try payloadGrew(base, to: received + count, sink)
    } catch {
      phase = .failed
      throw error
    }
  }

  /// What is still to come of the frame under way is read and thrown away, `frameEnded` is not
  /// called and its payload's memory is no longer written to: for a call that ended meanwhile. Not
  /// to be called by a sink while it is being told something.
  public func dropRestOfFrame() {
    switch phase {
    case .message:
      let left = Int(current.messageLength) - held.count + Int(current.payloadLength)
      held.removeAll(retained: FrameDecoder.retainedBytes)
      phase = .dropping(left: left)
    case .destination: phase = .dropping(left: Int(current.payloadLength))
    case .payload(_, let received):
      phase = .dropping(left: Int(current.payloadLength) - received)
    case .header, .dropping, .failed: break
    }
  }
}
