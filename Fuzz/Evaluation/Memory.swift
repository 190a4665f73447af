import LossdTensor

/// Memory of a test run, of exactly the size that was asked for, so that the address sanitizer sees
/// who goes beyond. Freed with the last reference.
public final class ExactMemory {
  public let base: UnsafeMutableRawPointer?
  public let count: Int

  /// - Parameter fill: what all bytes are.
  public init(_ count: Int, fill: UInt8) {
    self.count = count
    base = count == 0 ? nil : .allocate(byteCount: count, alignment: AlignedBuffer.alignment)
    base?.initializeMemory(as: UInt8.self, repeating: fill, count: count)
  }

  /// A copy of some bytes.
  public init(copying bytes: UnsafeRawBufferPointer) {
    count = bytes.count
    base = count == 0 ? nil : .allocate(byteCount: count, alignment: AlignedBuffer.alignment)
    if let source = bytes.baseAddress { base?.copyMemory(from: source, byteCount: count) }
  }

  deinit { base?.deallocate() }

  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }
}
