import Glibc

/// 64-byte-aligned memory of its own, or lent by another object, freed with the last reference.
/// `count` bytes are in use.
///
/// The bytes are not synchronised: `@unchecked Sendable` holds because an owner hands a buffer on
/// and stops using it, or shares it for reading only.
public final class AlignedBuffer: @unchecked Sendable {
  public static let alignment = 64

  public let base: UnsafeMutableRawPointer
  public let capacity: Int
  public let count: Int
  /// Whose memory it is, kept as long as the buffer; nil: the buffer's own.
  public let lender: (any AnyObject & Sendable)?

  /// Takes memory over that `memory(_:)` gave.
  private init(_ base: UnsafeMutableRawPointer, count: Int, capacity: Int) {
    self.base = base
    self.count = count
    self.capacity = capacity
    lender = nil
  }

  /// `count` bytes of memory that `lender` frees when it goes. `base` is a multiple of `alignment`.
  public init(_ base: UnsafeMutableRawPointer, count: Int, lentBy lender: any AnyObject & Sendable)
  {
    precondition(count >= 0 && Int(bitPattern: base) % AlignedBuffer.alignment == 0)
    self.base = base
    self.count = count
    capacity = count
    self.lender = lender
  }

  /// Uninitialised memory; `capacity` may exceed `count`. Both in bytes. Ends the program where
  /// there is none: for sizes that the program chooses itself. Sizes that a request, a file or a
  /// plugin chooses are for `init(reserving:)`.
  public convenience init(count: Int, capacity: Int? = nil) {
    precondition(count >= 0 && (capacity ?? count) >= count)
    let bytes = Swift.max(capacity ?? count, 1)
    guard let base = AlignedBuffer.memory(bytes) else {
      preconditionFailure("cannot allocate \(bytes) bytes")
    }
    self.init(base, count: count, capacity: bytes)
  }

  /// The same for a size that somebody else chooses: RESOURCE_EXHAUSTED where there is no memory of
  /// that size.
  public convenience init(reserving count: Int, capacity: Int? = nil) throws(StatusError) {
    let bytes = Swift.max(capacity ?? count, 1)
    guard count >= 0, bytes >= count, let base = AlignedBuffer.memory(bytes) else {
      throw AlignedBuffer.exhausted(bytes)
    }
    self.init(base, count: count, capacity: bytes)
  }

  deinit { if lender == nil { free(base) } }

  private static func memory(_ bytes: Int) -> UnsafeMutableRawPointer? {
    var base: UnsafeMutableRawPointer?
    return posix_memalign(&base, alignment, bytes) == 0 ? base : nil
  }

  /// What a call ends with for which there is no memory.
  public static func exhausted(_ bytes: Int) -> StatusError {
    StatusError(
      .resourceExhausted, "cannot allocate \(bytes) bytes: the system has no memory for them now")
  }

  public static func zeroed(count: Int) -> AlignedBuffer {
    let buffer = AlignedBuffer(count: count)
    buffer.base.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    return buffer
  }

  public var bytes: UnsafeMutableRawBufferPointer { .init(start: base, count: count) }
}
