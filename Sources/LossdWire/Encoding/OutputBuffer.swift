import CProtobufC
import LossdTensor

/// Bytes to be written to a peer: frames appended by `encodeFrame`, payloads kept apart by the
/// caller, so that one gathered write sends both without a copy. Allocates nothing in the steady
/// state. Confined to one thread at a time.
public final class OutputBuffer {
  private static let retainedBytes = 64 << 10

  private var storage = ByteBuffer(capacity: 1 << 10)
  /// Where protobuf-c's structures of the message being encoded are built.
  let scratch = MessageArena()

  public init() {}

  public var count: Int { storage.count }

  /// Memory that it takes, bytes.
  public var capacity: Int { storage.capacity + scratch.capacity }

  public var isEmpty: Bool { storage.count == 0 }

  /// Valid until the next change.
  public var bytes: UnsafeRawBufferPointer { storage.bytes }

  public func append(_ bytes: UnsafeRawBufferPointer) { storage.append(bytes) }

  /// `byteCount` bytes more, the caller's to fill before the next change.
  public func extend(by byteCount: Int) -> UnsafeMutableRawPointer {
    storage.extend(by: byteCount)
  }

  /// Writes four bytes over those at `index`, which are there.
  public func set(bigEndian value: UInt32, at index: Int) {
    for byte in 0..<4 {
      storage.set(index + byte, UInt8(truncatingIfNeeded: value >> (24 - 8 * UInt32(byte))))
    }
  }

  public func removeAll() { storage.removeAll(retained: OutputBuffer.retainedBytes) }

  /// Takes the first `byteCount` bytes away; the rest moves to the front.
  public func removeFirst(_ byteCount: Int) { storage.removeFirst(byteCount) }

  /// Takes the last `byteCount` bytes away again.
  public func removeLast(_ byteCount: Int) { storage.removeLast(byteCount) }

  /// A header and a message of `message.count` bytes.
  func appendFrame(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer = .init(start: nil, count: 0)
  ) {
    var header = header
    header.messageLength = UInt32(message.count)
    header.encode(into: storage.extend(by: FrameHeader.byteCount))
    storage.append(message)
  }

  /// A header with the packed message, which must be one of our own making and small: control
  /// frames.
  func appendFrame<T>(_ header: FrameHeader, packing message: UnsafeMutablePointer<T>) {
    let size = packedSize(message)
    var header = header
    header.messageLength = UInt32(size)
    header.encode(into: storage.extend(by: FrameHeader.byteCount))
    pack(message, size)
  }

  /// A header with the packed message, which may be refused for its size: RESOURCE_EXHAUSTED.
  func appendFrame<T>(
    _ header: FrameHeader, packing message: UnsafeMutablePointer<T>, atMost limit: UInt32
  ) throws(StatusError) {
    let size = packedSize(message)
    if size > Int(limit) {
      throw StatusError(
        .resourceExhausted, "the message has \(size) bytes, over the receiver's limit of \(limit)")
    }
    appendFrame(header, packing: message)
  }

  /// The packed message alone, for transports with frames of their own.
  func appendMessage<T>(_ message: UnsafeMutablePointer<T>) {
    pack(message, packedSize(message))
  }

  private func packedSize<T>(_ message: UnsafeMutablePointer<T>) -> Int {
    protobuf_c_message_get_packed_size(
      UnsafeRawPointer(message).assumingMemoryBound(to: ProtobufCMessage.self))
  }

  private func pack<T>(_ message: UnsafeMutablePointer<T>, _ size: Int) {
    let out = storage.extend(by: size)
    let written = protobuf_c_message_pack(
      UnsafeRawPointer(message).assumingMemoryBound(to: ProtobufCMessage.self),
      out.assumingMemoryBound(to: UInt8.self))
    assert(written == size)
  }
}
