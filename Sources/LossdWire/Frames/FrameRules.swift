/// The checks of docs/protocol.md's frame tables that need no knowledge of calls.
struct FrameRules {
  /// The side that reads.
  var role: FrameDecoder.Role
  /// Control messages (all but OPEN and MESSAGE) may not be longer, bytes.
  var maxMessageBytes: UInt32
  /// Whether REGION and RELEASE are known.
  var sharedMemory: Bool
  /// Whether the peer's HELLO has been read.
  var seenHello = false

  static let maxPingBytes: UInt32 = 64
  /// What a client has to say of its connection takes no more, and costs a server little to read,
  /// bytes.
  static let maxControlBytes: UInt32 = 64 << 10

  /// The header in 16 bytes that need no alignment.
  mutating func header(_ bytes: UnsafeRawPointer) throws(BadFrame) -> FrameHeader {
    let rawType = bytes.load(fromByteOffset: 12, as: UInt8.self)
    guard let type = FrameType(rawValue: rawType), sharedMemory || type.rawValue <= 0x08 else {
      throw BadFrame("frame type 0x\(hex(rawType)) is unknown")
    }
    let rawFlags = bytes.load(fromByteOffset: 13, as: UInt8.self)
    let reserved = UInt16(
      littleEndian: bytes.loadUnaligned(fromByteOffset: 14, as: UInt16.self))
    if reserved != 0 {
      throw BadFrame("\(type): the reserved bytes are 0x\(hex(reserved)), expected 0")
    }
    let header = FrameHeader(
      type: type,
      streamID: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)),
      flags: FrameFlags(rawValue: rawFlags),
      messageLength: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self)),
      payloadLength: UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self)))
    try check(header)
    return header
  }

  private mutating func check(_ header: FrameHeader) throws(BadFrame) {
    if !header.flags.isSubset(of: header.type.allowedFlags) {
      throw BadFrame(
        "\(header.type): the flags are 0x\(hex(header.flags.rawValue)), which it may not carry")
    }
    if (header.streamID == 0) != header.type.isOnConnection {
      throw BadFrame(
        header.type.isOnConnection
          ? "\(header.type) on stream \(header.streamID), expected stream 0"
          : "\(header.type) on stream 0, expected a call's stream")
    }
    if !header.type.isSent(to: role) {
      throw BadFrame("\(header.type) is not the \(role == .server ? "client" : "server")'s to send")
    }
    try checkLengths(header)
    if (header.type == .hello) == seenHello {
      throw BadFrame(
        seenHello
          ? "HELLO a second time" : "the first frame is \(header.type), expected HELLO")
    }
    seenHello = true
  }

  private func checkLengths(_ header: FrameHeader) throws(BadFrame) {
    if header.payloadLength != 0 && header.type != .message {
      throw BadFrame(
        "\(header.type): the payload has \(header.payloadLength) bytes, expected none")
    }
    switch header.type {
    case .open, .message: break
    case .cancel:
      if header.messageLength != 0 {
        throw BadFrame("CANCEL: the message has \(header.messageLength) bytes, expected none")
      }
    case .ping:
      if header.messageLength > FrameRules.maxPingBytes {
        throw BadFrame(
          "PING: the message has \(header.messageLength) bytes, expected at most "
            + "\(FrameRules.maxPingBytes)")
      }
    case .hello, .status, .credit, .goAway, .region, .release:
      let limit =
        role == .server ? min(maxMessageBytes, FrameRules.maxControlBytes) : maxMessageBytes
      if header.messageLength > limit {
        throw BadFrame(
          "\(header.type): the message has \(header.messageLength) bytes, over the limit of "
            + "\(limit)")
      }
    }
  }

  private func hex(_ value: some BinaryInteger) -> String {
    let digits = String(value, radix: 16)
    return digits.count.isMultiple(of: 2) ? digits : "0" + digits
  }
}

extension FrameType {
  fileprivate var allowedFlags: FrameFlags {
    switch self {
    case .message: .endStream
    case .ping: .ack
    default: []
    }
  }

  /// On stream 0; the others belong to a call.
  fileprivate var isOnConnection: Bool {
    switch self {
    case .hello, .ping, .goAway, .region, .release: true
    case .open, .message, .status, .cancel, .credit: false
    }
  }

  fileprivate func isSent(to role: FrameDecoder.Role) -> Bool {
    switch self {
    case .open, .cancel: role == .server
    case .status: role == .client
    default: true
    }
  }
}
