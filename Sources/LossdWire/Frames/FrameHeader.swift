/// The first bytes of a client: it speaks version 1.
public let preface = "LOSSD/1\n"

/// The 16 bytes before every frame's message and payload. Lengths in bytes.
public struct FrameHeader: Sendable, Equatable {
  public static let byteCount = 16

  public var payloadLength: UInt32
  public var messageLength: UInt32
  /// 0 is the connection itself.
  public var streamID: UInt32
  public var type: FrameType
  public var flags: FrameFlags

  public init(
    type: FrameType, streamID: UInt32 = 0, flags: FrameFlags = [], messageLength: UInt32 = 0,
    payloadLength: UInt32 = 0
  ) {
    self.payloadLength = payloadLength
    self.messageLength = messageLength
    self.streamID = streamID
    self.type = type
    self.flags = flags
  }

  public var endsStream: Bool { flags.contains(.endStream) }

  /// A MESSAGE with END_STREAM and nothing in it: on a streaming method, a bare half-close.
  public var isBareHalfClose: Bool {
    type == .message && endsStream && messageLength == 0 && payloadLength == 0
  }

  /// Writes the 16 bytes; `destination` needs no alignment.
  public func encode(into destination: UnsafeMutableRawPointer) {
    destination.storeBytes(of: payloadLength.littleEndian, toByteOffset: 0, as: UInt32.self)
    destination.storeBytes(of: messageLength.littleEndian, toByteOffset: 4, as: UInt32.self)
    destination.storeBytes(of: streamID.littleEndian, toByteOffset: 8, as: UInt32.self)
    destination.storeBytes(of: type.rawValue, toByteOffset: 12, as: UInt8.self)
    destination.storeBytes(of: flags.rawValue, toByteOffset: 13, as: UInt8.self)
    destination.storeBytes(of: 0, toByteOffset: 14, as: UInt16.self)
  }
}
