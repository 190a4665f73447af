import LossdTensor

/// The bytes of a message that is sent again and again, kept when it is encoded for the first time.
/// Only small ones. Confined to one thread at a time.
public final class EncodedMessage {
  private static let bytesMax = 256

  private let memory = UnsafeMutableRawPointer.allocate(
    byteCount: EncodedMessage.bytesMax, alignment: 16)
  private var count = 0

  public init() {}

  deinit { memory.deallocate() }

  public var isEmpty: Bool { count == 0 }
  public func removeAll() { count = 0 }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory, count: count) }

  func keep(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count <= EncodedMessage.bytesMax, let source = bytes.baseAddress else { return }
    memory.copyMemory(from: source, byteCount: bytes.count)
    count = bytes.count
  }
}
