import LossdTensor
import LossdWire

/// Remembers all that a decoder says, and answers as told.
final class ScriptedSink: FrameSink {
  var events: [String] = []
  /// Answers for `payloadDestination` before the memory is lent.
  var waits = 0
  var dropsMessages = false
  var dropsPayloads = false
  var dropsMessagesOver = 1 << 20
  let payload = AlignedBuffer(count: 1 << 16)

  func frameBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition {
    let isCall = header.type == .message || header.type == .open
    let isOver = isCall && header.messageLength > dropsMessagesOver
    return dropsMessages && isCall || isOver ? .drop : .receive
  }

  func messageArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    events.append("\(header.type) \(header.streamID) \(header.flags.rawValue) \(Array(message))")
  }

  func payloadDestination(_ header: FrameHeader) -> PayloadDisposition {
    if waits > 0 {
      waits -= 1
      return .wait
    }
    return dropsPayloads || header.payloadLength > payload.count ? .drop : .receive(payload.base)
  }

  func frameEnded(_ header: FrameHeader) throws(BadFrame) {
    let bytes = UnsafeRawBufferPointer(rebasing: payload.bytes[..<Int(header.payloadLength)])
    events.append("end \(header.type) \(Array(bytes))")
  }
}

/// A repeatable source (SplitMix64, Steele et al. 2014).
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

/// One frame with a header as given and any bytes after it.
func frameBytes(
  _ type: FrameType, _ stream: UInt32, _ flags: FrameFlags = [], message: [UInt8] = [],
  payload: [UInt8] = []
) -> [UInt8] {
  let header = FrameHeader(
    type: type, streamID: stream, flags: flags, messageLength: UInt32(message.count),
    payloadLength: UInt32(payload.count))
  return headerBytes(header) + message + payload
}

func headerBytes(_ header: FrameHeader) -> [UInt8] {
  withUnsafeTemporaryAllocation(byteCount: FrameHeader.byteCount, alignment: 1) { space in
    if let base = space.baseAddress { header.encode(into: base) }
    return Array(space)
  }
}

extension FrameDecoder {
  /// Decodes bytes of an array of exactly their size, so that a sanitizer sees a read beyond them.
  func feed(_ bytes: [UInt8], _ sink: any FrameSink) throws(BadFrame) -> Int {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { copy.deallocate() }
    copy.copyBytes(from: bytes)
    return try decode(UnsafeRawBufferPointer(copy), sink)
  }
}

/// A decoder that has read the peer's HELLO.
func greetedDecoder(
  _ role: FrameDecoder.Role = .server, maxMessageBytes: UInt32 = 4096, sharedMemory: Bool = false
) throws -> FrameDecoder {
  let decoder = FrameDecoder(
    role: role, maxMessageBytes: maxMessageBytes, sharedMemory: sharedMemory)
  _ = try decoder.feed(frameBytes(.hello, 0), ScriptedSink())
  return decoder
}

func hexBytes(_ text: some StringProtocol) -> [UInt8] {
  let digits = text.compactMap { $0.hexDigitValue.map(UInt8.init) }
  return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

func hexText(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
