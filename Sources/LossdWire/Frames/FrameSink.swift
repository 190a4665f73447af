/// What becomes of a frame whose header has been read.
public enum MessageDisposition: Sendable {
  case receive
  /// Message and payload are read and thrown away; nothing more is heard of this frame.
  case drop
}

/// Where a payload goes.
public enum PayloadDisposition {
  /// At least `payloadLength` bytes, 64-byte-aligned by whoever lends it, valid until `frameEnded`
  /// or `FrameDecoder.dropRestOfFrame`.
  case receive(UnsafeMutableRawPointer)
  /// Read and thrown away; `frameEnded` is not called.
  case drop
  /// No memory yet: the decoder stops before the payload's first byte and asks again when it is
  /// next called.
  case wait
}

/// What a `FrameDecoder` tells: a connection. All calls come from inside the decoder's own, which
/// must not be entered again meanwhile.
///
/// For each frame: `frameBegan`; unless dropped, `messageArrived`; where a payload follows,
/// `payloadDestination`, again and again while it says `.wait`; then, if the payload is received or
/// there is none, `frameEnded`. After a thrown `BadFrame` nothing more is called.
public protocol FrameSink: AnyObject {
  /// The header passed every check that needs no knowledge of calls. An OPEN's or MESSAGE's message
  /// may still be over the message limit: answer `.drop` then, or it is buffered whole.
  func frameBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition

  /// The whole message, `header.messageLength` bytes, borrowed for the call.
  func messageArrived(_ header: FrameHeader, _ message: UnsafeRawBufferPointer) throws(BadFrame)

  /// Asked only when `header.payloadLength` is not 0.
  func payloadDestination(_ header: FrameHeader) -> PayloadDisposition

  /// Whether the decoder is to stop before the next frame and to return; asked before each.
  func pausesDecoding() -> Bool

  /// The frame is complete, its payload where `payloadDestination` said.
  func frameEnded(_ header: FrameHeader) throws(BadFrame)
}

extension FrameSink {
  public func pausesDecoding() -> Bool { false }
}
