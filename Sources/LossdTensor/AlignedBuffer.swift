/// 64-byte-aligned memory of its own, freed with the last reference. `count` bytes are in use.
///
/// The bytes are not synchronised: `@unchecked Sendable` holds because an owner hands a buffer on and
/// stops using it, or shares it for reading only.
public final class AlignedBuffer: @unchecked Sendable {
  public static let alignment = 64

  public let base: UnsafeMutableRawPointer
  public let capacity: Int
  public let count: Int

  /// Uninitialised memory; `capacity` may exceed `count`. Both in bytes.
  public init(count: Int, capacity: Int? = nil) {
    precondition(count >= 0 && (capacity ?? count) >= count)
    self.count = count
    self.capacity = Swift.max(capacity ?? count, 1)
    base = .allocate(byteCount: self.capacity, alignment: AlignedBuffer.alignment)
  }

  deinit { base.deallocate() }

  public static func zeroed(count: Int) -> AlignedBuffer {
    let buffer = AlignedBuffer(count: count)
    buffer.base.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    return buffer
  }

  public var bytes: UnsafeMutableRawBufferPointer { .init(start: base, count: count) }
}
